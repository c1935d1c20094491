"""The command that reproduces the paper's results.

In: the name of a result, and a dataset. Out: the cost, the progress, and a row beside the paper's.
Knows nothing of: how anything is trained or evaluated.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console
from moodfield.cli.progress import Progress
from moodfield.errors import ConfigError
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from moodfield.datasets.mtg_jamendo import Dataset
    from moodfield.errors import MoodfieldError
    from moodfield.paper.figure1 import Point
    from moodfield.paper.reproduce import Plan, Row, Told

PICTURE = "figure-1.png"
"""in the folder of a sweep"""
STORE = ".cache/store"
"""where mels are kept, if no other folder is named"""


def reproduce(
    name: Annotated[str, typer.Argument(help="a row of Table 1, such as ShakeFAResNet; or table1, or figure1")],
    *,
    data: Annotated[Path, typer.Option(help="the folder of the dataset: its TSVs, and its audio")],
    audio: Annotated[Path | None, typer.Option(help="the folder of the audio, if it is elsewhere")] = None,
    to: Annotated[Path | None, typer.Option(help="where everything goes; by itself runs/NAME")] = None,
    small: Annotated[bool, typer.Option("--small", help="two small networks, 10 epochs: minutes")] = False,
    settings: console.Settings = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="say what it would take, and stop")] = False,
    store: Annotated[Path | None, typer.Option(help=f"where mels are kept between runs; by itself {STORE}")] = None,
    jobs: console.Jobs = 0,
    on: console.On = Backend.LOCAL,
    as_json: console.AsJson = False,
) -> None:
    """Reproduce a row of Table 1: extract, train, average, evaluate; a stopped one goes on.

    table1 evaluates the published predictions: DATA is a clone of the task's repository. figure1 trains one network per
    receptive-field size and plots their PR-AUC.
    """
    from moodfield import parallel
    from moodfield.datasets import mtg_jamendo
    from moodfield.paper import figure1, reproduce
    from moodfield.training import distributed, loop

    if name.casefold() == "table1":
        unused = {
            "--audio": audio, "--to": to, "--small": small, "--set": settings, "--plan": only_plan, "--store": store,
            "--jobs": jobs, "--on": on is not Backend.LOCAL,
        }  # fmt: skip
        console.refuse_unused(unused, why="table1 trains nothing, it evaluates the predictions in --data")
        _say_table(data, as_json=as_json)
        return
    if only_plan:
        console.refuse_unused({"--json": as_json}, why="--plan is words only")
    dataset = mtg_jamendo.find(data, audio=audio)
    plan = _plan(name, dataset, small=small, settings=settings or ())
    if distributed.is_distributed():
        raise ConfigError("several processes came; reproduce trains its networks by itself: side by side with --on ray")
    folder, store, jobs = to or Path("runs") / plan.title, store or Path(STORE), jobs or parallel.cpu_count()
    if not only_plan:
        reproduce.claim(plan, folder)
        _check_picture(plan, folder)
    for network in plan.networks[:1]:
        loop.keep_freed_memory(network.plan)
    _say_plan(plan)
    if only_plan:
        return
    with _told(plan) as told:
        if plan.title == "figure1":
            points = figure1.make(plan, folder, store=store, backend=on, jobs=jobs, told=told)
        else:
            row = reproduce.make(plan, folder, store=store, backend=on, jobs=jobs, told=told)
    if plan.title == "figure1":
        _say_points(points, folder, as_json=as_json)
    elif as_json:
        console.result_json(row.to_dict())
    else:
        _say_row(row, folder)


def _plan(name: str, dataset: "Dataset", *, small: bool, settings: Sequence[str]) -> "Plan":
    """The networks that a result takes."""
    from moodfield.paper import figure1, reproduce
    from moodfield.paper.reproduce import Plan

    if name.casefold() == "figure1":
        fields = [(rho, rho) for rho in figure1.RHOS]
        return Plan("figure1", figure1.networks(fields, small=small, settings=settings), dataset)
    plan = reproduce.plan(name, dataset, scale="small" if small else "full", settings=settings)
    if not plan.networks:
        console.refuse_unused({"--set": settings, "--small": small}, why=f"{plan.title} has no networks")
    return plan


def _check_picture(plan: "Plan", folder: Path) -> None:
    """Refuse a picture that must not be written before anything is trained for it."""
    if plan.title == "figure1":
        from moodfield.plots import figures

        figures.check(folder / PICTURE)


@contextmanager
def _told(plan: "Plan") -> "Iterator[Told]":
    """Bars and lines for as long as the work lasts."""
    from moodfield.paper.reproduce import Told

    mels = {each.plan.mel for each in plan.networks}
    epochs = {each.name: each.plan.schedule.epochs for each in plan.networks}
    if not plan.networks:
        yield Told()
        return
    with Progress(len(mels) * sum(len(each.tracks) for each in plan.dataset.splits.values()), plan.epochs) as progress:

        def done(network: str, error: "MoodfieldError | None") -> None:
            if error is None:
                progress.done(network, epochs[network])

        yield Told(progress.heard, lambda network, epoch: progress.trained(epoch, network), done)


def _say_plan(plan: "Plan") -> None:
    """What will be done, and what it takes."""
    from moodfield.paper import recipes, reproduce

    dataset = plan.dataset
    what = (
        recipes.SUBMISSIONS[plan.title].what
        if plan.title in recipes.SUBMISSIONS
        else "Figure 1: receptive fields (§3.1)"
    )
    counts = ", ".join(f"{len(split.tracks)} for {part}" for part, split in dataset.splits.items())
    console.say(f"{plan.title}: {what}")
    console.say(f"{dataset.name}, {len(dataset.train.vocabulary)} tags; tracks: {counts}")
    if dataset.note:
        console.say(f"note: {dataset.note}")
    for network in plan.networks:
        console.say(f"network {network.name}: {network.plan.schedule.epochs} epochs")
    if plan.networks:
        found = reproduce.cost(plan)
        console.say(
            f"about {_long(found.seconds)} of computing on this machine, by a few steps that were timed, and "
            f"{found.disk_bytes / 1e9:.1f} GB of disk; what is there already is not done again"
        )


def _say_row(row: "Row", folder: Path) -> None:
    """Print the row below the paper's."""
    from moodfield.paper import recipes

    table1 = recipes.SUBMISSIONS[row.title]
    table = console.table("macro PR-AUC", "validation", "test", "95 % of the test", words=1)
    table.add_row("the paper, on MTG-Jamendo", _short(table1.validation), _short(table1.test), "")
    how = f" ({', '.join(row.changes)})" if row.changes else ""
    own = f"[bold]here, on {console.plain(row.dataset + how)}[/bold]"
    table.add_row(own, _short(row.validation), _short(row.test), _ends(row.interval))
    for network, (validation, test) in row.networks.items():
        table.add_row(f"[dim]  {console.plain(network)}[/dim]", _short(validation), _short(test), "")
    console.terminal(stderr=False).print(table)
    if row.note:
        console.say(f"note: {row.note}")
    networks = shlex.quote(f"{folder}/networks/NAME")
    models = f"; its networks are models: moodfield tag --model {networks} FILE" if row.networks else ""
    console.say(f"everything is in {folder}{models}")


def _say_table(data: Path, *, as_json: bool) -> None:
    """Table 1 from what was published."""
    from moodfield.paper import table1

    rows = table1.table_1(data)
    if as_json:
        for row in rows:
            console.result_json(asdict(row) | {"same": row.same})
        return
    table = console.table("Table 1, test PR-AUC", "printed", "published predictions", "95 %, over tracks", words=1)
    for row in rows:
        table.add_row(row.title, _short(row.printed), _short(row.found), _ends(row.interval))
    console.terminal(stderr=False).print(table)
    apart = [row.title for row in rows if not row.same]
    console.say(f"other digits than printed: {', '.join(apart)}" if apart else "every row, digit for digit")


def _say_points(points: "list[Point]", folder: Path, *, as_json: bool) -> None:
    """What every receptive field is worth, and the picture."""
    from moodfield.paper import figure1
    from moodfield.plots import score_curves

    score_curves.draw(folder / PICTURE, [figure1.panel(points)])
    if as_json:
        for point in points:
            console.result_json(point.to_dict())
    else:
        heads = ("ρ", "bands = frames", "validation", "with SWA", "test", "with SWA")
        table = console.table(*heads, words=0)
        for point in points:
            scores = (known[part] for part in ("validation", "test") for known in (point.network, point.average))
            table.add_row(str(point.rho_freq), str(point.field[0]), *map(_short, scores))
        console.terminal(stderr=False).print(table)
    console.say(f"the picture is {folder / PICTURE}")


def _ends(interval: "tuple[float, float]") -> str:
    return "–" if math.isnan(interval[0]) else f"{interval[0]:.4f} – {interval[1]:.4f}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _long(seconds: float) -> str:
    """A time for people."""
    if seconds < 3_600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:.0f} days"
