"""The command that makes the paper's results again.

In: the name of a result, and a dataset. Out: what it will take, how it goes, and a row beside the paper's.
Knows nothing of: how anything is trained or scored.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import desk
from moodfield.cli.progress import Progress
from moodfield.fleet import Where

if TYPE_CHECKING:
    from moodfield.errors import MoodfieldError
    from moodfield.reproduction import Plan, Row


def reproduce(
    name: Annotated[str, typer.Argument(help="a submission of Table 1, such as ShakeFAResNet")],
    *,
    data: Annotated[Path, typer.Option(help="the folder of the dataset: its TSVs, and its audio")],
    audio: Annotated[Path | None, typer.Option(help="the folder of the audio, if it is elsewhere")] = None,
    to: Annotated[Path | None, typer.Option(help="where everything goes; by itself runs/NAME")] = None,
    small: Annotated[bool, typer.Option("--small", help="two small networks, 10 epochs: minutes")] = False,
    settings: desk.Settings = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="say what it would take, and stop")] = False,
    store: desk.StoreFolder = Path(".cache/store"),
    jobs: desk.Jobs = 0,
    on: desk.On = Where.HERE,
    as_json: desk.AsJson = False,
) -> None:
    """Make a row of Table 1 again: extract, train, average, score; a stopped one goes on."""
    from moodfield import fleet, jamendo, reproduction
    from moodfield.training import loop

    dataset = jamendo.find(data, audio=audio)
    plan = reproduction.plan(name, dataset, scale="small" if small else "full", settings=settings or ())
    _say_plan(plan)
    if only_plan:
        return
    folder = to or Path("runs") / plan.title
    for network in plan.networks[:1]:
        loop.keep_freed_memory(network.plan)
    tracks = len({each.plan.mel for each in plan.networks}) * sum(len(each.tracks) for each in dataset.splits.values())
    epochs = {each.name: each.plan.schedule.epochs for each in plan.networks}
    with Progress(tracks, plan.epochs) as progress:

        def done(network: str, error: "MoodfieldError | None") -> None:
            if error is None:
                progress.done(network, epochs[network])

        told = reproduction.Told(progress.heard, lambda network, epoch: progress.trained(epoch, network), done)
        row = reproduction.make(plan, folder, store=store, on=on, jobs=jobs or fleet.cores(), told=told)
    if as_json:
        typer.echo(json.dumps(asdict(row)))
        return
    _say_row(row, plan)
    desk.say(f"the submission is in {folder}")


def _say_plan(plan: "Plan") -> None:
    """What will be done, and what it takes."""
    from moodfield import paper, reproduction

    dataset = plan.dataset
    counts = ", ".join(f"{len(split.tracks)} for {part}" for part, split in dataset.splits.items())
    desk.say(f"{plan.title}: {paper.SUBMISSIONS[plan.title].what}")
    desk.say(f"{dataset.name}, {len(dataset.train.vocabulary)} tags; tracks: {counts}")
    if dataset.note:
        desk.say(f"note: {dataset.note}")
    for network in plan.networks:
        desk.say(f"network {network.name}: {network.plan.schedule.epochs} epochs")
    if plan.networks:
        found = reproduction.cost(plan)
        desk.say(
            f"about {_long(found.seconds)} of computing on this machine, by a few steps that were timed, and "
            f"{found.disk / 1e9:.1f} GB of disk; what is there already is not done again"
        )


def _say_row(row: "Row", plan: "Plan") -> None:
    """The row, below the paper's."""
    from rich.table import Table

    from moodfield import paper

    published = paper.SUBMISSIONS[row.title]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head, side in (("macro PR-AUC", "left"), ("validation", "right"), ("test", "right")):
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    table.add_row("the paper, on MTG-Jamendo", _short(published.validation), _short(published.test))
    table.add_row(
        f"[bold]this one, on {desk.plain(plan.dataset.name)}[/bold]", _short(row.validation), _short(row.test)
    )
    for network, (validation, test) in row.networks.items():
        table.add_row(f"[dim]  {desk.plain(network)} alone[/dim]", _short(validation), _short(test))
    desk.console(stderr=False).print(table)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _long(seconds: float) -> str:
    """A time for people."""
    if seconds < 3_600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:.0f} days"
