"""The command that lists and compares training runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodfield.cli import console, recipes

if TYPE_CHECKING:
    from rich.table import Table

    from moodfield.training.log import History


def runs(
    folders: Annotated[list[Path] | None, typer.Argument(help="runs, or folders of runs; by default: runs")] = None,
    *,
    plot: Annotated[Path | None, typer.Option(help="draw learning curves: curves.png")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List runs with their metrics, and settings that differ."""
    from moodfield.training import log

    paths = [run for folder in folders or [Path("runs")] for run in _find(folder)]
    if plot:
        from moodfield.plots import figures, learning_curves

        figures.check(plot, inputs=[path for run in paths for path in (run, *run.glob("*"))])
    histories = [log.read(path) for path in paths]
    if as_json:
        console.result_json(*(history.to_dict() for history in histories))
    else:
        terminal = console.terminal()
        terminal.print(_metrics_table(histories), soft_wrap=False)
        if settings := log.differing_settings(histories):
            terminal.print()
            terminal.print(_settings_table(settings), soft_wrap=False)
    if plot:
        metric = "macro PR-AUC" if {history.recipe.loss.kind for history in histories} == {"tags"} else "score"
        learning_curves.draw(plot, {str(history.folder): history.epochs for history in histories}, measure=metric)
        console.message(f"wrote {plot}")


def _find(folder: Path) -> list[Path]:
    """The folder itself, unless it has runs below it and is none."""
    if (folder / "recipe.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.rglob("recipe.json")) or [folder]


def _metrics_table(histories: "Sequence[History]") -> "Table":
    """A row for every run, with its number."""
    table = console.table("", "run", "epochs", "loss", "best", "in epoch", "averaged", words=2)
    for number, history in enumerate(histories, start=1):
        last, best, averaged = history.epochs[-1:], history.best, history.averaged
        table.add_row(
            str(number), console.escape(str(history.folder)),
            f"{len(history.epochs)} of {history.recipe.schedule.epochs}",
            console.number(last[0].loss if last else None), console.number(best.score if best else None),
            str(best.epoch) if best else "–", console.number(averaged.averaged if averaged else None),
        )  # fmt: skip
    return table


def _settings_table(settings: Mapping[str, Sequence[Any]]) -> "Table":
    """A row for every setting that differs, with a column for every run."""
    count = len(next(iter(settings.values())))
    table = console.table("setting", *(str(number + 1) for number in range(count)), words=1)
    for path, values in settings.items():
        table.add_row(console.escape(path), *(console.escape(recipes.format_value(value)) for value in values))
    return table
