"""The paper's results are made again, from audio to a row of Table 1.

In: a submission of the paper, a dataset, a folder. Out: networks, the submission they make, and what it is worth.
Knows nothing of: command lines, or how a network is trained.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import arrays, files, parallel
from moodfield.datasets.mtg_jamendo import Dataset, Split
from moodfield.errors import ConfigError, DatasetError, MoodfieldError, RunError
from moodfield.evaluation import bootstrap, mediaeval, metrics, submissions
from moodfield.evaluation.bootstrap import Interval
from moodfield.nets import summary
from moodfield.paper import recipes
from moodfield.parallel import Backend
from moodfield.training import checkpoints, distributed, estimate, pipeline, run_folder, validation
from moodfield.training.estimate import Cost, Throughput
from moodfield.training.log import Epoch
from moodfield.training.pipeline import ProgressCallback, RunPaths
from moodfield.training.recipe import Recipe

NETWORKS, PLAN, ROW, TRACKS = "networks", "plan.json", "row.json", "tracks.json"
"""in the folder of a reproduction: runs, what was asked for, and what came of it; in that of the runs: whose music"""
JUDGED = ("validation", "test")
"""splits that every network is asked about; the first one chooses"""

Scores = Float64[np.ndarray, "tracks tags"]
Snapshots = Float32[np.ndarray, "_ tracks tags"]
"""what the snapshots of a network say, one after the other"""


@dataclass(frozen=True)
class Network:
    """One network to be trained, asked, and kept."""

    name: str
    """of its folder"""
    plan: Recipe
    """everything decided before"""

    def __str__(self) -> str:
        """Its name, where words are wanted."""
        return self.name


@dataclass(frozen=True)
class Plan:
    """What is to be made of a dataset."""

    title: str
    """the submission, by its name in Table 1"""
    networks: tuple[Network, ...]
    """those whose mean it is"""
    dataset: Dataset
    """what they learn from and are asked about"""
    changes: tuple[str, ...] = ()
    """how it differs from what the paper did: `small`, and settings"""

    @property
    def epochs(self) -> int:
        """Epochs of all networks."""
        return sum(each.plan.schedule.epochs for each in self.networks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what tells this plan from another one."""
        return {
            "submission": self.title,
            "dataset": {part: _digest(split) for part, split in self.dataset.splits.items()},
            "networks": {each.name: each.plan.to_dict() for each in self.networks},
        }


@dataclass(frozen=True)
class Row:
    """A submission as Table 1 would have it, and more."""

    title: str
    """the submission, by its name in Table 1"""
    dataset: str
    """the dataset"""
    note: str
    """what a reader must know of the dataset, if anything"""
    changes: tuple[str, ...]
    """how it differs from what the paper did: `small`, and settings"""
    validation: float
    """macro PR-AUC on the validation tracks, which the best epochs and the thresholds are chosen on"""
    test: float
    """macro PR-AUC on the test tracks"""
    interval: Interval
    """its 95 %, over tracks; NaN where these are too few"""
    networks: dict[str, tuple[float, float]]
    """both of every network alone: the mean of its snapshots, and its best epoch"""
    official: dict[str, float]
    """all numbers of the task on the test tracks"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where there is no interval."""
        return asdict(self) | {"interval": [None if math.isnan(end) else end for end in self.interval]}


@dataclass(frozen=True)
class Told:
    """Who is told how it goes."""

    heard: ProgressCallback = lambda *_: None
    """of every mel that is there, or why it is not"""
    trained: Callable[[str, Epoch], None] = lambda *_: None
    """of every epoch of a network that is trained here"""
    done: Callable[[str, MoodfieldError | None], None] = lambda *_: None
    """of every network that is finished, now or before, or why it is not"""


def plan(
    title: str, dataset: Dataset, *, scale: Literal["full", "small"] = "full", settings: Sequence[str] = ()
) -> Plan:
    """What a submission of the paper takes; `settings` change every network. Refuses unknown titles and settings."""
    title, submission = recipes.submission(title)
    members = submission.members if scale == "full" else submission.members[: recipes.SMALL_MEMBERS]
    networks = []
    for member in members:
        plan = member.recipe if scale == "full" else recipes.small(member.recipe)
        networks.append(Network(member.name, plan.change(*settings)))
    return Plan(title, tuple(networks), dataset, (*(("small",) if scale == "small" else ()), *settings))


def cost(plan: Plan) -> Cost:
    """What a plan takes on this machine alone: a step of one network of a family is timed, the others count by work."""
    seconds = {part: sum(track.seconds for track in split.tracks) for part, split in plan.dataset.splits.items()}
    tags, clips = len(plan.dataset.train.vocabulary), len(plan.dataset.train.tracks)
    found = Cost(0.0, sum(estimate.mel_bytes(each, sum(seconds.values())) for each in _of_each_mel(plan.networks)))
    known: dict[tuple[object, ...], tuple[float, Throughput]] = {}
    for each in (network.plan for network in plan.networks):
        family, work = (
            (type(each.net), each.mel, each.precision),
            summary.summarize(each.net, each.mel, n_tags=tags).gmac,
        )
        if family not in known:
            known[family] = work, estimate.measure(each, n_tags=tags)
        own = known[family][1].scale(work / known[family][0])
        asked = (
            (2 * seconds["validation"] + seconds["test"]) / each.batch.clip_seconds * own.predict_seconds
        )  # once for its card
        found += estimate.cost(each, own, clips=clips, validation_seconds=seconds["validation"])
        found += Cost(asked * len(checkpoints.snapshot_paths(each, Path())), 0)
    return found


def make(
    plan: Plan, folder: str | Path, *, store: str | Path, backend: Backend = Backend.LOCAL, jobs: int = 1, told: Told
) -> Row:
    """Extract, train, average, score, and write; what is finished is not done again, and what was stopped goes on.

    The folder has the submission to the task (of the test tracks, with thresholds chosen on the validation tracks), the
    networks as runs, each of which is a tagger, too, and the row. Refuses a folder of another plan, one that is no
    reproduction, one that another process works in, and a dataset with test tracks that cannot be read: a submission
    has a row for every one.
    """
    folder = Path(folder)
    with locked(folder):
        claim(plan, folder)
        known = recipes.SUBMISSIONS[plan.title]
        if known.constant:
            flat = {
                part: _constant(known.constant, plan.dataset, split) for part, split in _judged(plan.dataset).items()
            }
            return _write(plan, folder, flat, {})
        place = RunPaths(plan.dataset.audio, Path(store), folder / NETWORKS, jobs, backend)
        plan = replace(plan, dataset=readable(plan.networks, plan.dataset, place, heard=told.heard))
        said = train(plan.networks, plan.dataset, place, told=told)
        alone = {
            f"{name}, {way}": (
                area(plan.dataset, "validation", of(each["validation"])),
                area(plan.dataset, "test", of(each["test"])),
            )
            for name, each in said.items()
            for way, of in (("mean of snapshots", _mean), ("best epoch", _best))
        }
        speaks = _mean if known.starred else _best
        found = {part: _mean(np.stack([speaks(each[part]) for each in said.values()])) for part in JUDGED}
        return _write(plan, folder, found, alone)


def train(
    networks: Sequence[Network], dataset: Dataset, place: RunPaths, *, told: Told, folders: bool = True
) -> dict[str, dict[str, Snapshots]]:
    """By name of a network, what its snapshots say of the validation and test tracks, the best epoch's first.

    Runs are in the place's folder, a folder each; those that are finished are only read. On Ray networks are trained
    side by side, each with a GPU if there are any. The dataset is one whose every track is `readable`. Without
    `folders` runs keep weights alone, and no model folders.
    """
    waiting = _waiting(networks, place)
    for network in networks:
        if network not in waiting:
            told.done(network.name, None)
    here = replace(place, jobs=1, backend=Backend.LOCAL)
    if place.backend is Backend.RAY:
        results = parallel.map(
            partial(_train, dataset, _absolute(here), folders=folders), waiting, backend=place.backend, with_gpu=True
        )
    else:
        results = parallel.map(partial(_train, dataset, here, folders=folders, told=told), waiting)
    failed = []
    for network, result in results:
        error = result if isinstance(result, MoodfieldError) else None
        told.done(network.name, error)
        failed += [f"{network.name}: {error}"] if error else []
    if failed:
        raise RunError(
            f"{len(failed)} of {len(networks)} networks could not be trained: {'; '.join(failed)}; the others are "
            "kept, and the same command goes on from there"
        )
    found: dict[str, dict[str, Snapshots]] = {network.name: {} for network in networks}
    for name, part in product(found, JUDGED):
        shape, path = (None, *dataset.splits[part].truth.shape), place.run_dir / name / f"{part}.npy"
        found[name][part] = arrays.read(path, np.float32, shape, remedy="delete it, and start again")
    return found


def _train(dataset: Dataset, place: RunPaths, network: Network, *, folders: bool, told: Told = Told()) -> None:
    """Train a network and ask it; a process of a cluster does it with nobody to tell."""
    own = replace(place, run_dir=place.run_dir / network.name)
    learn = partial(pipeline.train, name=network.name) if folders else pipeline.train_network
    learn(
        network.plan, dataset.train, dataset.validation, own, on_epoch=lambda epoch: told.trained(network.name, epoch)
    )
    net = network.plan.net.build(n_mels=network.plan.mel.n_mels, n_tags=len(dataset.train.vocabulary))
    distributed.launch(network.plan.precision).fabric.to_device(net)
    for part, split in _judged(dataset).items():
        tracks = pipeline.load_dataset(split, split.truth.astype(np.float32), network.plan, own)
        said = []
        for weights in checkpoints.snapshot_paths(network.plan, own.run_dir).values():
            checkpoints.load_weights(net, weights)
            said.append(validation.predict(network.plan, net, tracks, split.vocabulary))
        arrays.write(own.run_dir / f"{part}.npy", np.stack(said))


def _waiting(networks: Sequence[Network], place: RunPaths) -> list[Network]:
    """Those that have not been asked everything; a run of another recipe does not count, and is refused later."""
    return [each for each in networks if not _finished(place.run_dir / each.name, each.plan)]


def _finished(run: Path, plan: Recipe) -> bool:
    """Whether a run of this recipe was asked everything: its last answers are written last."""
    shape = (len(checkpoints.snapshot_paths(plan, run)), None, None)
    if any(arrays.shape(run / f"{part}.npy", np.float32, shape) is None for part in JUDGED):
        return False  # not asked, or what came of it is damaged: then it is asked again
    return Recipe.read(run / run_folder.RECIPE).canonical() == plan.canonical()


def readable(
    networks: Sequence[Network], dataset: Dataset, place: RunPaths, *, heard: ProgressCallback = lambda *_: None
) -> Dataset:
    """The dataset without the tracks that cannot be read, every mel being there for the networks.

    Refuses test tracks that cannot be read: a submission has a row for every one. What was found is kept beside the
    runs, and holds from then on.
    """
    path = place.run_dir / TRACKS
    before = _rows(path, dataset) if path.is_file() else None
    if before and not _waiting(networks, place):
        kept = dataset.take(before)
        for track in chain(*(split.tracks for split in kept.splits.values())):
            heard(track, None)
        return kept
    rows = before or {part: list(range(len(split.tracks))) for part, split in dataset.splits.items()}
    for plan in _of_each_mel(networks):
        for part, split in dataset.splits.items():
            found = pipeline.extract_mels(split.take(rows[part]).tracks, plan, place, progress=heard)
            lost = len(rows[part]) - len(found)
            if lost and (before or part == "test"):
                why = "that could be before" if before else "and a submission has a row for every one"
                raise DatasetError(
                    f"{lost} of {len(rows[part])} {part} tracks cannot be read, {why}; mend them, or leave them out of "
                    "the index and begin in another folder"
                )
            rows[part] = [rows[part][each] for each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(rows).encode())
    return dataset.take(rows)


def _rows(path: Path, dataset: Dataset) -> dict[str, list[int]]:
    """The rows of every split that could be read before; refuses a damaged file."""
    remedy = "remove it, and the tracks are looked at again"
    rows: dict[str, list[int]] = files.read_json(path, dict, remedy=remedy)
    for part, split in dataset.splits.items():
        own = rows.get(part)
        if not isinstance(own, list) or not all(type(row) is int and 0 <= row < len(split.tracks) for row in own):
            raise RunError(f"{path} is damaged: it has no rows of the {part} tracks; {remedy}")
    return rows


def _write(plan: Plan, folder: Path, found: dict[str, Scores], alone: dict[str, tuple[float, float]]) -> Row:
    """The submission with thresholds chosen on the validation tracks, and its row."""
    vocabulary, truth = plan.dataset.test.vocabulary, plan.dataset.test.truth
    thresholds = metrics.best_thresholds(plan.dataset.validation.truth, found["validation"])
    made = submissions.make(found["test"], thresholds, vocabulary)
    score = mediaeval.evaluate(truth, made, vocabulary=vocabulary, n_resamples=bootstrap.N_RESAMPLES)
    row = Row(
        title=plan.title,
        dataset=plan.dataset.name,
        note=plan.dataset.note,
        changes=plan.changes,
        validation=area(plan.dataset, "validation", found["validation"]),
        test=score.report.macro["PR-AUC"],
        interval=score.intervals["PR-AUC-macro"],
        networks=alone,
        official=score.report.to_dict(),
    )
    files.write(folder / ROW, (json.dumps(row.to_dict(), indent=2) + "\n").encode())
    if plan.networks:  # what has no networks says the same of everything, and is no submission
        submissions.write(made, folder, vocabulary=vocabulary)
    return row


def _mean(scores: np.ndarray) -> Scores:
    """Of the first axis: snapshots of a network, or networks of a submission (§3.4)."""
    return np.asarray(scores.mean(axis=0, dtype=np.float64))


def _best(scores: Snapshots) -> Scores:
    """Of the best epoch, which is the first of the snapshots."""
    return scores[0].astype(np.float64)


def area(dataset: Dataset, part: str, scores: np.ndarray) -> float:
    """Macro PR-AUC on a split."""
    return metrics.evaluate(dataset.splits[part].truth, scores).macro["PR-AUC"]


def _constant(kind: Literal["popular", "random"], dataset: Dataset, split: Split) -> Scores:
    """What a baseline says that has not heard the music."""
    shape = split.truth.shape
    if kind == "random":
        return np.random.default_rng(recipes.SEEDS[0]).random(shape)
    commonest = int(dataset.train.truth.sum(axis=0).argmax())
    return np.tile(np.arange(shape[1]) == commonest, (shape[0], 1)).astype(np.float64)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Let no other process work in the folder of a reproduction; refuses a folder that is none."""
    return run_folder.lock(folder, PLAN, what="a reproduction")


def claim(plan: Plan, folder: Path) -> None:
    """Make the folder this plan's, or see that it is; refuses a folder that is no reproduction."""
    path, wanted = folder / PLAN, plan.to_dict()
    run_folder.check_unused(folder, PLAN, what="a reproduction")
    if not path.is_file():
        with run_folder.os_errors_as_run_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files.write(path, (json.dumps(wanted, indent=2) + "\n").encode())
    elif _decided(path) != _settled(wanted):
        raise RunError(
            f"{folder} holds a reproduction of another plan, or of a dataset that has changed; give the same to go on, "
            "or another folder"
        )


def _decided(path: Path) -> object:
    """What the plan in a file decides; refuses a damaged one."""
    remedy = "give another folder, or remove this one"
    try:
        return _settled(files.read_json(path, dict, remedy=remedy))
    except (ConfigError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"{path} is damaged, or no plan: {error}; {remedy}") from error


def _settled(values: dict[str, Any]) -> dict[str, Any]:
    """What a plan decides."""
    networks = {name: Recipe.from_dict(each).canonical() for name, each in values["networks"].items()}
    return {**values, "networks": networks}


def _digest(split: Split) -> str:
    """What tells a split from any other: its tracks, its vocabulary, and their truth, in their order."""
    facts = [split.vocabulary, [(track.path, track.tags) for track in split.tracks]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _judged(dataset: Dataset) -> dict[str, Split]:
    return {part: dataset.splits[part] for part in JUDGED}


def _of_each_mel(networks: Sequence[Network]) -> list[Recipe]:
    """One recipe for every kind of mel that networks hear."""
    return list({each.plan.mel: each.plan for each in networks}.values())


def _absolute(place: RunPaths) -> RunPaths:
    """The same for a process that runs in another folder."""
    return replace(place, **{name: getattr(place, name).absolute() for name in ("music", "store", "run")})
