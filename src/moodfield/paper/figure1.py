"""Networks with different receptive fields, compared as in Figure 1.

In: values of ρ, a dataset, a folder of runs. Out: for every network, what it and the average of its weights are worth.
Knows nothing of: command lines, how a network is trained, or how a picture is drawn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from moodfield import receptive_field
from moodfield.datasets.mtg_jamendo import Dataset
from moodfield.paper import recipes, reproduce
from moodfield.paper.recipes import Member
from moodfield.paper.reproduce import JUDGED, Network, Plan, Snapshots, Told
from moodfield.parallel import Backend
from moodfield.plots.score_curves import Panel
from moodfield.training.pipeline import RunPaths

KIND = "cp_resnet"
"""the recipe whose fields are varied: plain ResNets with a regularized field (§3.1)"""
RHOS = (0, 2, 4, 6, 9, 14, 22)
"""from the smallest field to the largest; *chosen by us*: Figure 1 survives only as a picture"""

LAST_AVERAGE = "averaging.snapshots=1"
"""Figure 1 compares the best epoch with one average"""


@dataclass(frozen=True)
class Point:
    """What one receptive field came to, trained once."""

    rho_freq: int
    """ρ along frequency"""
    rho_time: int
    """ρ along time"""
    seed: int
    """of the run"""
    network: Mapping[str, float]
    """macro PR-AUC of the best epoch, by split"""
    average: Mapping[str, float]
    """macro PR-AUC of the last average of its weights (SWA), by split; of the best epoch where there is no average"""

    @property
    def field(self) -> tuple[int, int]:
        """What an output cell sees: bands and frames."""
        freq, time = (
            receptive_field.compute(receptive_field.regularized_layers(rho)).size
            for rho in (self.rho_freq, self.rho_time)
        )
        return freq, time

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def networks(
    fields: Iterable[tuple[int, int]], *, seeds: Sequence[int] = recipes.SEEDS[:1], small: bool = False,
    settings: Sequence[str] = (),
) -> tuple[Network, ...]:  # fmt: skip
    """One network for every ρ along frequency and time, and every seed; `settings` change all of them."""
    found = []
    for freq, time in fields:
        for seed in seeds:
            own = {f"net.rho_freq={freq}": "varied", f"net.rho_time={time}": "varied", f"seed={seed}": "varied"}
            member = Member(KIND, own)
            plan = recipes.small(member.recipe) if small else member.recipe
            found.append(Network(member.name, plan.change(LAST_AVERAGE, *settings)))
    return tuple(found)


def make(
    plan: Plan, folder: Path, *, store: str | Path, backend: Backend = Backend.LOCAL, jobs: int = 1, told: Told
) -> list[Point]:
    """Train a plan's networks in a folder that is this plan's from then on; refuses that of another one."""
    with reproduce.locked(folder):
        reproduce.claim(plan, folder)
        place = RunPaths(plan.dataset.audio, Path(store), folder / reproduce.NETWORKS, jobs, backend)
        return train(plan.networks, plan.dataset, place, told=told)


def train(wanted: Sequence[Network], dataset: Dataset, place: RunPaths, *, told: Told | None = None) -> list[Point]:
    """Train them all, or go on where it was stopped."""
    told = told or Told()
    dataset = reproduce.readable(wanted, dataset, place, heard=told.heard)
    said = reproduce.train(wanted, dataset, place, told=told, folders=False)
    return [point(network, dataset, said[network.name]) for network in wanted]


def point(network: Network, dataset: Dataset, said: Mapping[str, Snapshots]) -> Point:
    """What a network is worth, from what its snapshots said: the best epoch comes first, the last average last."""
    best, last = ({part: reproduce.area(dataset, part, said[part][which]) for part in JUDGED} for which in (0, -1))
    net = network.plan.net
    return Point(net.rho_freq, net.rho_time, network.plan.seed, best, last)  # type: ignore[union-attr]


def panel(
    points: Iterable[Point], *, title: str = "ρ along frequency and time", axis: Literal["freq", "time"] = "freq"
) -> Panel:
    """The points as they are drawn, against the size of their fields along one axis."""
    scores: dict[tuple[str, bool], dict[int, list[float]]] = {}
    ticks = {}
    for each in sorted(points, key=lambda point: point.field):
        size = each.field[0 if axis == "freq" else 1]
        ticks[size] = f"{size}\nρ {each.rho_freq if axis == 'freq' else each.rho_time}"
        for part in JUDGED:
            for averaged, known in ((False, each.network), (True, each.average)):
                scores.setdefault((part, averaged), {}).setdefault(size, []).append(known[part])
    along = "bands = frames" if axis == "freq" else "frames"
    return Panel(title, f"receptive field, {along}", scores, ticks)
