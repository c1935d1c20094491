"""The commands that reproduce the paper: its table, its figure, and the training of one row."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, progress, tables
from moodfield.errors import ConfigError
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from moodfield.errors import MoodfieldError
    from moodfield.paper.figure1 import Point
    from moodfield.paper.plan import Plan
    from moodfield.paper.reproduce import Progress, Row
    from moodfield.training.pipeline import RunPaths

PICTURE = "figure-1.png"
"""file name in the output folder"""

complete_row = console.complete("paper.recipes", "SUBMISSIONS")

Data = Annotated[Path, typer.Option(help="folder of the dataset: its TSVs and its audio")]
Audio = Annotated[Path | None, typer.Option(help="folder of the audio, if it is elsewhere")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="folder of results, by default runs/NAME; unfinished ones continue"),
]
Small = Annotated[bool, typer.Option("--small", help="smaller networks and 10 epochs: minutes instead of days")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the networks, time and disk needed, and stop")]


def table1(
    *,
    data: Annotated[Path, typer.Option(help="a clone of the task's repository, with the published predictions")],
    as_json: console.AsJson = False,
) -> None:
    """Evaluate the published predictions and compare them with Table 1.

    For example:
        moodfield paper table1 --data mediaeval-2019-moodtheme-detection
    """
    from moodfield.paper import table1 as published

    rows = published.compute(data)
    if as_json:
        console.result_json(*(asdict(row) | {"same": row.same} for row in rows))
        return
    table = console.table("Table 1, test PR-AUC", "printed", "published predictions", "95 %, over tracks", words=1)
    for row in rows:
        numbers = map(console.number, (row.printed, row.computed))
        table.add_row(row.title, *numbers, tables.format_interval(row.interval))
    console.terminal().print(table)
    different = [row.title for row in rows if not row.same]
    console.message(f"rows that differ: {', '.join(different)}" if different else "every row is equal to four digits")


def figure1(
    *,
    data: Data, audio: Audio = None, output: Output = None, small: Small = False, settings: console.Settings = None,
    dry_run: DryRun = False, cache_dir: console.CacheDir = console.CACHE_DIR, jobs: console.Jobs = 0,
    on: console.On = Backend.LOCAL, as_json: console.AsJson = False,
) -> None:  # fmt: skip
    """Train a network per receptive-field size and plot PR-AUC."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.paper import figure1 as figure
    from moodfield.paper.plan import Plan

    fields = [(rho, rho) for rho in figure.RHOS]
    dataset = mtg_jamendo.find(data, audio=audio)
    plan = Plan("figure1", figure.networks(fields, small=small, settings=settings or ()), dataset)
    paths = _paths(plan, output, cache_dir, jobs, on)
    if _begin(plan, paths.run_dir, "Figure 1: receptive fields (§3.1)", dry_run=dry_run, as_json=as_json):
        with _progress(plan) as callbacks:
            points = figure.make(plan, paths, progress=callbacks)
        _print_points(points, paths.run_dir, as_json=as_json)


def train(
    name: Annotated[
        str,
        typer.Argument(help="a row of Table 1, such as ShakeFAResNet", autocompletion=complete_row, show_default=False),
    ],
    *,
    data: Data, audio: Audio = None, output: Output = None, small: Small = False, settings: console.Settings = None,
    dry_run: DryRun = False, cache_dir: console.CacheDir = console.CACHE_DIR, jobs: console.Jobs = 0,
    on: console.On = Backend.LOCAL, as_json: console.AsJson = False,
) -> None:  # fmt: skip
    """Train and evaluate the networks of a row of Table 1."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.paper import recipes, reproduce
    from moodfield.paper.plan import Plan

    dataset = mtg_jamendo.find(data, audio=audio)
    plan = Plan.from_title(name, dataset, scale="small" if small else "full", settings=settings or ())
    if not plan.networks:
        console.check_unused({"--set": settings, "--small": small}, why=f"{plan.title} has no networks")
    paths, description = _paths(plan, output, cache_dir, jobs, on), recipes.SUBMISSIONS[plan.title].description
    if _begin(plan, paths.run_dir, description, dry_run=dry_run, as_json=as_json):
        with _progress(plan) as callbacks:
            row = reproduce.make(plan, paths, progress=callbacks)
        console.result_json(row.to_dict()) if as_json else _print_row(row, paths.run_dir)


def _paths(plan: "Plan", output: Path | None, cache_dir: Path, jobs: int, on: Backend) -> "RunPaths":
    """The folders of a reproduction, by the options of a command."""
    from moodfield import parallel
    from moodfield.training.pipeline import RunPaths

    folder, jobs = output or Path("runs") / plan.title, jobs or parallel.cpu_count()
    return RunPaths(plan.dataset.audio, cache_dir, folder, jobs, on)


def _begin(plan: "Plan", folder: Path, description: str, *, dry_run: bool, as_json: bool) -> bool:
    """Check and print what will be done; false if that was all."""
    from moodfield.paper import reproduce
    from moodfield.training import distributed, loop

    if dry_run:
        console.check_unused({"--json": as_json}, why="--dry-run prints text only")
    if distributed.is_distributed():
        raise ConfigError("this command cannot run under torchrun; it trains networks side by side with --on ray")
    if not dry_run:
        plan.claim(folder)
        if plan.title == "figure1":
            from moodfield.plots import figures

            figures.check(folder / PICTURE)
    for network in plan.networks[:1]:
        loop.keep_freed_memory(network.recipe)
    dataset = plan.dataset
    counts = ", ".join(f"{len(split.tracks)} for {part}" for part, split in dataset.splits.items())
    console.message(f"{plan.title}: {description}")
    console.message(f"{dataset.name}, {len(dataset.train.vocabulary)} tags; tracks: {counts}")
    if dataset.note:
        console.message(f"note: {dataset.note}")
    for network in plan.networks:
        console.message(f"network {network.name}: {network.recipe.schedule.epochs} epochs")
    if plan.networks:
        cost = reproduce.cost(plan)
        needs = f"{_format_time(cost.seconds)} on this machine and {cost.disk_bytes / 1e9:.1f} GB of disk"
        console.message(f"estimate, from a few timed steps: {needs}; results that exist are reused")
    return not dry_run


@contextmanager
def _progress(plan: "Plan") -> "Iterator[Progress]":
    """Callbacks that show the progress of a plan, if it has networks."""
    from moodfield.paper.reproduce import Progress

    if not plan.networks:
        yield Progress()
        return
    mels = {network.recipe.mel for network in plan.networks}
    epochs = {network.name: network.recipe.schedule.epochs for network in plan.networks}
    tracks = sum(len(split.tracks) for split in plan.dataset.splits.values())
    with progress.TrainingProgress(len(mels) * tracks, plan.epochs) as bars:

        def finish(network: str, error: "MoodfieldError | None") -> None:
            if error is None:
                bars.finished(network, epochs[network])

        yield Progress(bars.track, lambda network, epoch: bars.epoch(epoch, network), finish)


def _print_row(row: "Row", folder: Path) -> None:
    """Print a row below the paper's."""
    from moodfield.paper import recipes

    published = recipes.SUBMISSIONS[row.title]
    table = console.table("macro PR-AUC", "validation", "test", "95 % of the test", words=1)
    table.add_row("the paper, on MTG-Jamendo", *map(console.number, (published.validation, published.test)), "")
    changes = f" ({', '.join(row.changes)})" if row.changes else ""
    name = f"[bold]this run, on {console.escape(row.dataset + changes)}[/bold]"
    table.add_row(name, *map(console.number, (row.validation, row.test)), tables.format_interval(row.interval))
    for network, scores in row.networks.items():
        table.add_row(f"[dim]  {console.escape(network)}[/dim]", *map(console.number, scores), "")
    console.terminal().print(table)
    if row.note:
        console.message(f"note: {row.note}")
    networks = shlex.quote(f"{folder}/networks/NAME")
    models = f"; its networks are models: moodfield tag --model {networks} FILE" if row.networks else ""
    console.message(f"wrote {folder}{models}")


def _print_points(points: "Sequence[Point]", folder: Path, *, as_json: bool) -> None:
    """Print the PR-AUC of every receptive field, and draw it."""
    from moodfield.paper import figure1
    from moodfield.plots import score_curves

    score_curves.draw(folder / PICTURE, [figure1.panel(points)])
    if as_json:
        console.result_json(*map(asdict, points))
    else:
        heads = ("ρ", "bands = frames", "validation", "with SWA", "test", "with SWA")
        table = console.table(*heads, words=0)
        for point in points:
            scores = (values[part] for part in ("validation", "test") for values in (point.best_epoch, point.average))
            table.add_row(str(point.rho_freq), str(point.field[0]), *map(console.number, scores))
        console.terminal().print(table)
    console.message(f"wrote {folder / PICTURE}")


def _format_time(seconds: float) -> str:
    if seconds < 3_600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:.0f} days"
