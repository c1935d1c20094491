"""Figure 1: PR-AUC of networks with different receptive fields."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from moodfield import receptive_field
from moodfield.datasets.mtg_jamendo import Dataset
from moodfield.paper import recipes, reproduce
from moodfield.paper.plan import Network, Plan
from moodfield.paper.recipes import Member
from moodfield.paper.reproduce import SILENT, SPLITS, Progress, Snapshots
from moodfield.plots.score_curves import Panel
from moodfield.training.pipeline import RunPaths

KIND = "cp_resnet"
"""the recipe that is varied: plain ResNets with a regularized receptive field (§3.1)"""
RHOS = (0, 2, 4, 6, 9, 14, 22)
"""from the smallest receptive field to the largest; *chosen by us*: Figure 1 survives only as a picture"""

ONE_AVERAGE = "averaging.snapshots=1"
"""Figure 1 compares the best epoch with one average"""


@dataclass(frozen=True)
class Point:
    """PR-AUC of one network."""

    rho_freq: int
    """ρ along frequency"""
    rho_time: int
    """ρ along time"""
    seed: int
    """seed of the run"""
    best_epoch: Mapping[str, float]
    """split → macro PR-AUC of the best epoch"""
    average: Mapping[str, float]
    """split → macro PR-AUC of the last average of its weights (SWA), or of the best epoch where there is none"""

    @property
    def field(self) -> tuple[int, int]:
        """Receptive field in bands and frames."""
        freq, time = (
            receptive_field.compute(receptive_field.regularized_layers(rho)).size
            for rho in (self.rho_freq, self.rho_time)
        )
        return freq, time


def networks(
    fields: Iterable[tuple[int, int]], *, seeds: Sequence[int] = recipes.SEEDS[:1], small: bool = False,
    settings: Sequence[str] = (),
) -> tuple[Network, ...]:  # fmt: skip
    """One network per pair of ρ and seed.

    Args:
        fields: ρ along frequency and time.
        seeds: seeds of the runs.
        small: whether networks are small, for trials.
        settings: changes `a.b=v` of every recipe.
    """
    result = []
    for (freq, time), seed in product(fields, seeds):
        member = Member(KIND, dict.fromkeys((f"net.rho_freq={freq}", f"net.rho_time={time}", f"seed={seed}"), "varied"))
        recipe = recipes.small(member.recipe) if small else member.recipe
        result.append(Network(member.name, recipe.change(ONE_AVERAGE, *settings)))
    return tuple(result)


def make(plan: Plan, paths: RunPaths, *, progress: Progress = SILENT) -> list[Point]:
    """Train the networks of a plan in a folder of its own; arguments and exceptions as of `reproduce.make`."""
    with plan.lock(paths.run_dir):
        paths = replace(paths, run_dir=paths.run_dir / reproduce.NETWORKS)
        return train(plan.networks, plan.dataset, paths, progress=progress)


def train(
    networks: Sequence[Network], dataset: Dataset, paths: RunPaths, *, progress: Progress = SILENT
) -> list[Point]:
    """Train networks, or continue where training was interrupted."""
    dataset, snapshots = reproduce.train(networks, dataset, paths, progress=progress, export=False)
    return [to_point(network, dataset, snapshots[network.name]) for network in networks]


def to_point(network: Network, dataset: Dataset, snapshots: Mapping[str, Snapshots]) -> Point:
    """The PR-AUC of a network's first snapshot, the best epoch, and of its last one, the last average."""
    best, last = (
        {part: reproduce.pr_auc(dataset, part, snapshots[part][index]) for part in SPLITS} for index in (0, -1)
    )
    net = network.recipe.net
    return Point(net.rho_freq, net.rho_time, network.recipe.seed, best, last)  # type: ignore[union-attr]


def panel(
    points: Iterable[Point], *, title: str = "ρ along frequency and time", axis: Literal["freq", "time"] = "freq"
) -> Panel:
    """Points as a panel of a figure, over the size of their receptive fields along one axis."""
    scores: dict[tuple[str, bool], dict[int, list[float]]] = {}
    ticks = {}
    for point in sorted(points, key=lambda point: point.field):
        size = point.field[0 if axis == "freq" else 1]
        ticks[size] = f"{size}\nρ {point.rho_freq if axis == 'freq' else point.rho_time}"
        for part in SPLITS:
            for averaged, by_split in ((False, point.best_epoch), (True, point.average)):
                scores.setdefault((part, averaged), {}).setdefault(size, []).append(by_split[part])
    along = "bands = frames" if axis == "freq" else "frames"
    return Panel(title, f"receptive field, {along}", scores, ticks)
