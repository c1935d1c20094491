"""The command that lists recipes, and shows every setting of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console

if TYPE_CHECKING:
    from moodfield.training.recipe import NamedRecipe, Recipe


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="name or .json file", autocompletion=console.complete_recipe)
    ] = None,
    *,
    settings: console.Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON; of one, as train --recipe takes it")] = False,
) -> None:
    """List the training recipes, or show every setting of one.

    For example:
        moodfield recipes
        moodfield recipes fa_resnet
        moodfield recipes fa_resnet --set net.rho_freq=7 --json > recipe.json
    """
    if name:
        _show(name, settings or (), as_json=as_json)
    else:
        console.check_unused({"--set": settings}, why="no recipe is named")
        _list(as_json=as_json)


def named() -> "dict[str, NamedRecipe]":
    """All recipes that have a name: those of the paper, and that of fine-tuning."""
    from moodfield.paper import recipes
    from moodfield.training.recipe import FINE_TUNING

    return {**recipes.RECIPES, "fine_tuning": FINE_TUNING}


def read(name: str, settings: Sequence[str] | None, *, initial_model: Path | None = None) -> "Recipe":
    """A recipe of the list, or one in a file, with the network and mel of an initial model and changed settings."""
    from moodfield import errors
    from moodfield.training.recipe import Recipe

    if name.endswith(".json"):
        recipe = Recipe.read(name)
    else:
        recipe = errors.get_or_suggest(named(), name, what="recipe (nor a .json file)").recipe
    if initial_model:
        from moodfield.training import fine_tuning

        recipe = fine_tuning.with_model(recipe, initial_model)
    return recipe.change(*(settings or ()))


def replaced(name: str, recipe: "Recipe") -> list[str]:
    """Which of network and mel differ between a recipe of the list, or in a file, and another one."""
    own = read(name, None)
    return [part for part, differs in (("network", own.net != recipe.net), ("mel", own.mel != recipe.mel)) if differs]


def _list(*, as_json: bool) -> None:
    if as_json:
        plain = {
            name: {"what": one.description, "reasons": dict(one.reasons), "recipe": one.recipe.to_dict()}
            for name, one in named().items()
        }
        console.result_json(plain)
        return
    table = console.table("recipe", "description", words=2)
    for name, one in named().items():
        table.add_row(name, one.description)
    terminal = console.terminal()
    terminal.print(table, soft_wrap=False)
    terminal.print("\n[dim]every setting of one: moodfield recipes NAME; § is a section of the paper[/dim]")


def _show(name: str, settings: Sequence[str], *, as_json: bool) -> None:
    config = read(name, settings)
    if as_json:
        console.result_json(config.to_dict(), indent=2)
        return
    one = named().get(name)
    reasons = {setting.partition("=")[0]: reason for setting, reason in (one.reasons if one else {}).items()}
    reasons |= {setting.partition("=")[0]: "changed by --set" for setting in settings}
    table = console.table("setting", "value", "meaning and source", words=3)
    group = "net"
    for setting in config.settings():
        previous, group = group, setting.path.rpartition(".")[0] or ("net" if setting.path == "net" else "")
        if group != previous:
            table.add_row()
        reason = f"; here: {reasons[setting.path]}" if setting.path in reasons else ""
        meaning = f"{setting.meaning}{reason}".replace("*", "")
        table.add_row(setting.path, console.escape(format_value(setting.value)), console.escape(meaning))
    terminal = console.terminal()
    if one:
        terminal.print(f"[bold]{name}[/bold]: {one.description}\n", soft_wrap=False)
    terminal.print(table, soft_wrap=False)


def format_value(value: object) -> str:
    """A value as `--set` takes it."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
