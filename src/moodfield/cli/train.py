"""The commands that train and distill, and that show recipes and runs.

In: datasets, settings, runs. Out: runs, and tables and pictures of them.
Knows nothing of: how anything is trained.
"""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodfield.cli import console
from moodfield.cli.progress import Progress
from moodfield.errors import UsageError
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from rich.table import Table

    from moodfield.training.log import Epoch, History
    from moodfield.training.recipe import Recipe


def train(
    index: Annotated[Path, typer.Argument(help="training tracks: a TSV in the form of MTG-Jamendo")],
    *,
    validation: Annotated[Path, typer.Option(help="validation tracks, in the same form")],
    audio: Annotated[Path, typer.Option(help="the folder that the paths in the TSVs are below")],
    to: Annotated[Path, typer.Option(help="the folder of the run; an unfinished run goes on")],
    name: Annotated[str, typer.Option("--recipe", help="a recipe of the list, or a recipe.json")] = "fa_resnet",
    tags: Annotated[Path | None, typer.Option(help="tags in their order; else those of the training TSV")] = None,
    soft: Annotated[Path | None, typer.Option(help="soft truth for training: tracks × tags, .npy")] = None,
    settings: console.Settings = None,
    store: console.StoreFolder = Path(".cache/store"),
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also write event files into the run")] = False,
    called: Annotated[str, typer.Option("--name", help="what the model is to be called")] = "mine",
    jobs: console.Jobs = 0,
    on: console.On = Backend.LOCAL,
) -> None:
    """Train a network on a dataset, and leave it as a model folder in the run."""
    from moodfield import parallel
    from moodfield.datasets import mtg_jamendo
    from moodfield.training import log, loop, pipeline

    vocabulary = mtg_jamendo.read_vocabulary(tags) if tags else None
    plan = _recipe(name).change(*(settings or ()))
    learn = mtg_jamendo.read(index, vocabulary=vocabulary)
    judge = mtg_jamendo.read(validation, vocabulary=vocabulary or learn.vocabulary)
    truth = pipeline.read_soft_targets(soft) if soft else None
    place = pipeline.RunPaths(audio, store, to, jobs or parallel.cpu_count(), on)
    loop.keep_freed_memory(plan)
    with Progress(len(learn.tracks) + len(judge.tracks), plan.schedule.epochs) as progress, ExitStack() as open_:
        told = open_.enter_context(log.tensorboard(to)) if tensorboard else lambda _: None

        def report(epoch: "Epoch") -> None:
            progress.trained(epoch)
            told(epoch)

        pipeline.train(
            plan, learn, judge, place, name=called, soft_targets=truth, progress=progress.heard, on_epoch=report
        )
    _figures(to)


def distill(
    manifest: Annotated[Path, typer.Argument(help="which music, and which packages are held out: a TSV")],
    *,
    teacher: Annotated[Path, typer.Option(help="the organisers' published checkpoint, best_model.pth")],
    music: Annotated[Path, typer.Option(help="the folder of the music")],
    to: Annotated[Path, typer.Option(help="the folder of the run; an unfinished run goes on")],
    speeds: Annotated[list[float] | None, typer.Option("--speed", help="also train on the music at this speed")] = None,
    measured: Annotated[
        Path | None, typer.Option(help="also train on the held-out tracks; report the metrics of this earlier run")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="the teacher's predictions for MTG-Jamendo's test tracks, to calibrate scores: .npy"),
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="the folder of MTG-Jamendo's official TSVs, for the same")] = None,
    terms: Annotated[
        Path | None, typer.Option(help="text of the model's card: name, summary, licence, limits, origin; TOML")
    ] = None,
    appendices: Annotated[
        list[Path] | None,
        typer.Option("--appendix", exists=True, dir_okay=False, help="Markdown that the model's README is to end with"),
    ] = None,
    settings: console.Settings = None,
    store: console.StoreFolder = Path(".cache/store"),
    jobs: console.Jobs = 0,
) -> None:
    """Distill a published network into a small one with its 56 moods and themes, on freely licensed music."""
    from moodfield import parallel
    from moodfield.distillation import distill as room
    from moodfield.distillation import model_card
    from moodfield.training import loop, pipeline

    if (predictions is None) != (splits is None):
        raise UsageError("scores are calibrated with both --predictions and --splits; give both or none")
    said = model_card.read_card_text(terms) if terms else model_card.UNSAID
    judged = model_card.calibrate_teacher(predictions, splits) if predictions and splits else None
    plan = room.STUDENT.change(*(settings or ()))
    place = pipeline.RunPaths(music, store, to, jobs or parallel.cpu_count())
    found = room.read_manifest(manifest)
    heldout = len(found.heldout.tracks)
    learned = len(found.train.tracks) + (heldout if measured else 0)
    tracks = 2 * (learned * (1 + len(speeds or ())) + heldout)
    loop.keep_freed_memory(plan)
    with Progress(tracks, plan.schedule.epochs) as progress:
        room.distill(
            plan, found, teacher, place, speeds=speeds or (), measured=measured, judged=judged, terms=said,
            appendix="\n\n".join(each.read_text(encoding="utf-8").strip() for each in appendices or ()),
            heard=progress.heard, report=progress.trained,
        )  # fmt: skip
    _figures(to)


def recipes(*, as_json: console.AsJson = False) -> None:
    """List the recipes."""
    from moodfield.paper import recipes

    if as_json:
        for name, named in recipes.RECIPES.items():
            plain = {
                "name": name,
                "what": named.what,
                "reasons": dict(named.reasons),
                "recipe": named.recipe.to_dict(),
            }
            console.result_json(plain)
        return
    table = console.table("recipe", "what it trains", words=2)
    for name, named in recipes.RECIPES.items():
        table.add_row(name, named.what)
    terminal = console.terminal(stderr=False)
    terminal.print(table, soft_wrap=False)
    terminal.print("\n[dim]every number of one: moodfield recipes show NAME; § is a section of the paper[/dim]")


def show_recipe(
    name: Annotated[str, typer.Argument(help="a recipe of the list, or a recipe.json")],
    *,
    settings: console.Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="the recipe as train --recipe takes it")] = False,
) -> None:
    """Show every number of a recipe, what it means and where it comes from."""
    from moodfield.paper import recipes

    plan = _recipe(name).change(*(settings or ()))
    if as_json:
        console.result_document(plan.to_json())
        return
    reasons = recipes.RECIPES[name].reasons if name in recipes.RECIPES else {}
    because = {setting.partition("=")[0]: why for setting, why in reasons.items()}
    because |= {setting.partition("=")[0]: "changed by you" for setting in settings or ()}
    table = console.table("setting", "value", "meaning, and where it comes from", words=3)
    room = "net"
    for each in plan.settings():
        before, room = room, each.path.rpartition(".")[0] or ("net" if each.path == "net" else "")
        if room != before:
            table.add_row()
        why = f"; here: {because[each.path]}" if each.path in because else ""
        table.add_row(
            each.path,
            console.plain(_value(each.value)),
            console.plain(each.meaning.replace("*", "") + why.replace("*", "")),
        )
    terminal = console.terminal(stderr=False)
    if name in recipes.RECIPES:
        terminal.print(f"[bold]{name}[/bold]: {recipes.RECIPES[name].what}\n", highlight=False, soft_wrap=False)
    terminal.print(table, soft_wrap=False)


def show_runs(
    folders: Annotated[list[Path], typer.Argument(help="runs, finished or not", show_default=False)],
    *,
    plot: Annotated[Path | None, typer.Option(help="draw how they went: curves.png")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Show the metrics of runs, the settings in which they differ, and learning curves."""
    from moodfield.training import log

    if plot:
        from moodfield.plots import figures, learning_curves

        figures.check(plot, inputs=[path for folder in folders for path in (folder, *folder.glob("*"))])
    found = [log.read(folder) for folder in folders]
    if as_json:
        for each in found:
            console.result_json(each.to_dict())
    else:
        terminal = console.terminal(stderr=False)
        terminal.print(_came_to(found), soft_wrap=False)
        if differ := log.differing_settings(found):
            terminal.print()
            terminal.print(_differ(differ), soft_wrap=False)
    if plot:
        kinds = {each.recipe.loss.kind for each in found}
        measure = "macro PR-AUC" if kinds == {"tags"} else "score"
        learning_curves.draw(plot, {str(each.folder): each.epochs for each in found}, measure=measure)
        console.say(f"the picture is {plot}")


def _came_to(histories: "list[History]") -> "Table":
    """A row for every run, with its number."""
    table = console.table("", "run", "epochs", "loss", "best", "in epoch", "averaged", words=2)
    for number, each in enumerate(histories, start=1):
        last, best, mean = each.epochs[-1:], each.best, each.averaged
        table.add_row(
            str(number), console.plain(str(each.folder)), f"{len(each.epochs)} of {each.recipe.schedule.epochs}",
            f"{last[0].loss:.4f}" if last else "–", f"{best.score:.4f}" if best else "–",
            str(best.epoch) if best else "–", f"{mean.averaged:.4f}" if mean else "–",
        )  # fmt: skip
    return table


def _differ(settings: dict[str, list[Any]]) -> "Table":
    """A row for every setting in which runs differ, with a column for each run."""
    pipeline = len(next(iter(settings.values())))
    table = console.table("differ in", *(str(number + 1) for number in range(pipeline)), words=1)
    for path, values in settings.items():
        table.add_row(console.plain(path), *(console.plain(_value(value)) for value in values))
    return table


def _recipe(name: str) -> "Recipe":
    """The recipe that is meant: one of the list, or one in a file."""
    from moodfield import errors
    from moodfield.paper import recipes

    if name.endswith(".json"):
        return Recipe.read(name)
    return errors.get_or_suggest(recipes.RECIPES, name, what="recipe (nor a .json file)").recipe


def _value(value: object) -> str:
    """A number as `--set` takes it."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _figures(run: Path) -> None:
    """The metrics at the end of a run; printed once, however many processes trained it."""
    from moodfield import tagger
    from moodfield.card import Provenance
    from moodfield.training import distributed

    if not distributed.is_main():
        return
    for name, value in Provenance.read(run / tagger.BEST).metrics.items():
        console.result(f"{name:<34} {value:.4f}")
    console.result(f"the model is in {run}; try: moodfield tag --model {shlex.quote(str(run))} FILE")
