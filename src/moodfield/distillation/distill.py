"""A teacher's opinion of music becomes truth for a smaller network.

In: a published checkpoint and freely licensed music. Out: a run whose student says of music what the teacher says.
Knows nothing of: how networks are built, or how the music was fetched.
"""

import csv
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield import calibration, files, tagger, tags
from moodfield.card import Card, Provenance
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.distillation import model_card, speed_perturbation, teacher
from moodfield.distillation.model_card import CardText, ThresholdedScores
from moodfield.errors import ConfigError, DatasetError, MoodfieldError, RunError
from moodfield.mel import MelConfig
from moodfield.nets import CPResNetConfig
from moodfield.training import (
    checkpoints,
    checks,
    distributed,
    export,
    loop,
    mel_cache,
    pipeline,
    run_folder,
    validation,
)
from moodfield.training.batches import ClipDataset, TrackTargets, WindowTargets
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, LossConfig, ScheduleConfig
from moodfield.training.log import Epoch
from moodfield.training.mel_cache import MelCache, Statistics
from moodfield.training.pipeline import ProgressCallback, RunPaths
from moodfield.training.recipe import Recipe
from moodfield.training.run_folder import TRUTH, VOCABULARY

COLUMNS = ("split", "package", "path", "seconds", "licence")
"""columns of a manifest of music that are read"""

STUDENT = Recipe(
    net=CPResNetConfig(width=64, rho_freq=9, rho_time=9, frequency_aware=True),
    mel=MelConfig(sample_rate=12_000, n_fft=1_024, hop_length=768, n_mels=128, kind="plain"),
    batch=BatchConfig(clip_seconds=teacher.WINDOW),
    augment=AugmentConfig(roll_frames=0, mixup_alpha=0.0),
    loss=LossConfig(kind="logits"),
    averaging=AveragingConfig(start=7, every=1, snapshots=1),
    schedule=ScheduleConfig(warm_up=0, constant=2, decay=4, final=2, peak=1e-3, floor=3e-5),
    precision="bf16-mixed",
)
"""the recipe of the bundled model; the last average of its weights counts, whatever held-out music says of it"""
HELD_OUT_BEFORE = "; from a network of the same recipe that did not learn from them, and whose figures these are"
"""what is said of held-out music that the student then learned from"""


@dataclass(frozen=True)
class Music:
    """Freely licensed music, some of whose packages are held out whole."""

    train: Split
    """tracks to learn from"""
    heldout: Split
    """tracks of other packages, to be judged by"""
    licences: dict[str, str]
    """package → the licences of its tracks"""
    manifest: str
    """the SHA-256 of the manifest"""


def read_manifest(path: str | Path) -> Music:
    """The music in a manifest: a TSV with at least the `COLUMNS`; a track's file is `package/path`."""
    try:
        text = Path(path).read_bytes()
        rows = list(csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a manifest of music: {error}") from error
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    tracks: dict[str, list[Track]] = {"train": [], "heldout": []}
    licences: dict[str, dict[str, None]] = {}
    for row in rows:
        name = f"{row['package']}/{row['path']}"
        if not row["package"] or not row["path"] or any(map(mtg_jamendo.leaves_folder, (row["package"], row["path"]))):
            raise DatasetError(f"{path}: {name!r} leaves the folder of the music; give paths below it")
        if row["split"] not in tracks:
            raise DatasetError(f"{path}: split {row['split']!r} of {name}; 'train' and 'heldout' are known")
        try:
            seconds = float(row["seconds"])
        except (TypeError, ValueError) as error:  # a short row has None
            raise DatasetError(f"{path}: {row['seconds']!r} seconds of {name}; give a number") from error
        if row["licence"] is None:
            raise DatasetError(f"{path}: no licence of {name}, whose row is too short")
        tracks[row["split"]].append(Track(name, name, seconds, ()))
        licences.setdefault(row["package"], {})[row["licence"]] = None
    for split, known in tracks.items():
        if not known:
            raise DatasetError(
                f"{path} has no track in split {split!r}; some packages are learned from, others held out"
            )
    train, heldout = (Split(tuple(tracks[split]), tags.MOODS_AND_THEMES) for split in ("train", "heldout"))
    named = {package: ", ".join(kinds) for package, kinds in licences.items()}
    return Music(train, heldout, named, hashlib.sha256(text).hexdigest())


@dataclass(frozen=True)
class DistillationData:
    """What a student learns, and what it is judged by."""

    learn: ClipDataset
    """mels of the training packages, and what the teacher said of their windows"""
    judge: ClipDataset
    """the same of the packages held out"""
    learned: tuple[Track, ...]
    """the tracks of `learn`, in its order"""
    judged: tuple[Track, ...]
    """the tracks of `judge`, in its order"""
    statistics: Statistics
    """of the mels of `learn`"""


def prepare(
    plan: Recipe,
    found: Music,
    checkpoint: str | Path,
    place: RunPaths,
    *,
    speeds: Sequence[float] = (),
    heard: ProgressCallback = lambda *_: None,
) -> DistillationData:
    """Compute the teacher's logits and the student's mels of all music once; what cannot be read is left out.

    Music to learn from also comes at other `speeds`: more music, with a truth of its own.
    """
    model = teacher.model_of(checkpoint, place.cache_dir)
    parts = [_part(plan, model, found.train.tracks, place, heard)]
    for speed in sorted(set(speeds)):
        if tracks := _copies(found.train.tracks, place, speed, heard):
            copies = replace(place, audio_dir=speed_perturbation.folder(place.cache_dir, speed))
            parts.append(_part(plan, model, tracks, copies, heard))
    judge = _part(plan, model, found.heldout.tracks, place, heard)
    mels = tuple(stored for part in parts for stored in part.material.mels)
    windows = tuple(rows for part in parts for rows in part.windows)
    learn = ClipDataset(mels, WindowTargets(windows, teacher.STEP * plan.mel.frames_per_second))
    statistics = mel_cache.statistics([(part.mels, part.tracks) for part in parts])
    return DistillationData(
        learn, judge.material, tuple(t for part in parts for t in part.tracks), judge.tracks, statistics
    )


@dataclass(frozen=True)
class _Part:
    """The tracks of one folder that teacher and student could read."""

    tracks: tuple[Track, ...]
    mels: MelCache
    material: ClipDataset
    windows: tuple[Float32[np.ndarray, "_clips tags"], ...]


def _part(plan: Recipe, model: Path, tracks: Sequence[Track], place: RunPaths, heard: ProgressCallback) -> _Part:
    """The teacher's logits and the student's mels of the tracks of one folder."""
    failed = set()
    for track, result in teacher.compute(model, tracks, place.audio_dir, jobs=place.jobs):
        error = result if isinstance(result, MoodfieldError) else None
        heard(track, error)
        failed |= {track} if error else set()
    kept = tuple(
        tracks[row] for row in pipeline.extract_mels(tracks, plan, place, progress=heard) if tracks[row] not in failed
    )
    mels, truth = place.mel_cache(plan.mel), teacher.truth(model, kept, place.audio_dir, plan.mel)
    return _Part(kept, mels, ClipDataset(tuple(map(mels.open, kept)), truth), truth.windows)


def _copies(tracks: Sequence[Track], place: RunPaths, speed: float, heard: ProgressCallback) -> list[Track]:
    """The tracks at another speed; of one that cannot be read, neither teacher nor student will have anything."""
    found = []
    for track, copy in speed_perturbation.perturb(tracks, place.audio_dir, place.cache_dir, speed, jobs=place.jobs):
        if isinstance(copy, MoodfieldError):
            heard(track, copy)
            heard(track, copy)
        else:
            found.append(copy)
    return found


def distill(
    plan: Recipe,
    found: Music,
    checkpoint: str | Path,
    place: RunPaths,
    *,
    speeds: Sequence[float] = (),
    measured: Path | None = None,
    judged: model_card.TeacherCalibration | None = None,
    terms: CardText = model_card.UNSAID,
    appendix: str = "",
    heard: ProgressCallback = lambda *_: None,
    report: Callable[[Epoch], None] = lambda _: None,
) -> Card:
    """Teach a student what a teacher says of every window of music, and leave it as a model folder in the run.

    The student is the last average of its weights or, if the recipe takes none, the network of the best validated
    epoch. `STUDENT` takes some, so the held-out packages, which measure it, do not choose its weights. Thresholds need
    no truth, only music of many kinds, so the teacher's are chosen on all of it, and the student's to decide like it;
    what the training packages alone would have chosen is among the figures.

    With `measured`, a finished run of the same recipe, teacher and music, the student learns from the held-out
    packages, too, and its figures and examples stay those of that run. What the teacher's scores mean, if it was
    `judged`, holds for its student. Its card says the `terms`, and ends with the `appendix`. What was trained is not
    trained again when the command is repeated, and the model folder of before stays until a new one takes its place.
    """
    if distributed.is_distributed():
        raise ConfigError("several processes came; distill is one process, which uses every core")
    for speed in speeds:
        speed_perturbation.check(speed)
    fed = _fed(checkpoint, found, speeds)
    before = _card_of(measured, plan, fed, judged) if measured else None
    music = replace(found, train=_both(found)) if measured else found
    checks.check_recipe(plan, n_tags=len(tags.MOODS_AND_THEMES), clips=len(music.train.tracks), processes=1)
    with run_folder.lock(place.run_dir, cache=place.cache_dir):
        decided = {VOCABULARY: list(found.train.vocabulary), TRUTH: _digest_of(fed, measured=measured is not None)}
        run_folder.check(place.run_dir, plan, decided)
        folder, best = place.run_dir / "draft", place.run_dir / tagger.BEST
        files.restore_directory(best)
        for model in (folder, best):
            export.check_folder(model)
        given = prepare(plan, music, checkpoint, place, speeds=speeds, heard=heard)
        run_folder.claim(place.run_dir, plan, decided, cache=place.cache_dir)
        vocabulary = found.train.vocabulary
        net = loop.fit(plan, given.learn, given.judge, given.statistics, vocabulary, place.run_dir, on_epoch=report)
        checkpoints.load_weights(net, list(checkpoints.snapshot_paths(plan, place.run_dir).values())[-1])
        draft = export.describe(plan, net, vocabulary, name=terms.name, summary=terms.summary, licence=terms.licence)
        export.export(net, judged.apply_to(draft) if judged else draft, folder)
        cost = model_card.cost([place.run_dir, *([measured] if measured else [])])
        origin = {**terms.origin, **fed, "seed": str(plan.seed), "cost": cost}
        student, provenance = _described(folder, given, found, before, judged, origin)
        export.write_card(student, replace(provenance, limits=terms.limits), folder, appendix=appendix)
        export.check_folder(best)
        return Card.read(files.replace_directory(folder, best))


def _described(
    folder: Path,
    given: DistillationData,
    found: Music,
    before: Provenance | None,
    judged: model_card.TeacherCalibration | None,
    origin: Mapping[str, str],
) -> tuple[Card, Provenance]:
    """The card of the student in a folder with its thresholds, and its provenance."""
    draft, (taught_by, student, names) = Card.read(folder), _opinions(folder, given, found, judged)
    metrics, examples = (
        (before.metrics, before.examples) if before else model_card.evaluate_student(taught_by, student, names)
    )
    origin = {
        **origin,
        **({"calibration": judged.origin} if judged else {}),
        "thresholds": "chosen on all of the music, by the scores alone, to decide like the teacher",
    }
    training_data = {
        "held out": _packages(found, given.judged) + (HELD_OUT_BEFORE if before else ""),
        "learned from": _packages(found, given.learned),
    }
    metrics = {**metrics, **(judged.figures if judged else {})}
    provenance = Provenance(origin=origin, training_data=training_data, metrics=metrics, examples=examples)
    return replace(draft, thresholds=tuple(student.thresholds.tolist())), provenance


def _digest_of(fed: Mapping[str, str], *, measured: bool) -> str:
    """What tells the truth of a student from that of any other."""
    return hashlib.sha256(json.dumps([dict(fed), measured], sort_keys=True).encode()).hexdigest()


def _fed(checkpoint: str | Path, found: Music, speeds: Sequence[float]) -> dict[str, str]:
    """What a student learns from; two with the same recipe that were fed the same learn the same."""
    return {
        "taught by": f"a checkpoint, SHA-256 {teacher.sha256(checkpoint)}",
        "music": f"a manifest, SHA-256 {found.manifest}",
        "speeds": ", ".join(f"{each:g}" for each in sorted({1.0, *speeds})),
    }


def _opinions(
    folder: Path, given: DistillationData, found: Music, judged: model_card.TeacherCalibration | None
) -> tuple[ThresholdedScores, ThresholdedScores, list[str]]:
    """What the teacher says of all music, what the student in a model folder says; what held-out tracks are called."""
    pieces, tracks = _own(given, found)
    heldout, priors = np.array([track in found.heldout.tracks for track in tracks]), judged.priors if judged else None
    known = judged.calibration.scores if judged else calibration.sigmoid
    teachers = ThresholdedScores(known(pieces.targets.per_track()), heldout, priors)
    student = ThresholdedScores(
        validation.predict_with_tagger(tagger.load(folder), pieces), heldout, priors, like=teachers
    )
    return teachers, student, [_title(track) for track in itertools.compress(tracks, heldout)]


def _own(given: DistillationData, found: Music) -> tuple[ClipDataset, tuple[Track, ...]]:
    """All the music as it is, every track once: at other speeds it is no music of its own."""
    known = {track for split in (found.train, found.heldout) for track in split.tracks}
    parts = ((given.learned, given.learn), (given.judged, given.judge))
    kept = {
        track: (stored, row)
        for tracks, part in parts
        for track, stored, row in zip(tracks, part.mels, part.targets.per_track(), strict=True)
        if track in known
    }
    mels, rows = zip(*kept.values(), strict=True)
    return ClipDataset(mels, TrackTargets(np.stack(rows))), tuple(kept)


def _title(track: Track) -> str:
    """What a track is called: its file, and its package."""
    return f"{Path(track.path).stem.replace('_', ' ')} ({track.path.partition('/')[0]})"


def _card_of(
    measured: Path, plan: Recipe, fed: Mapping[str, str], judged: model_card.TeacherCalibration | None
) -> Provenance:
    """The provenance of a run that learned in the same way from the training packages alone."""
    if Recipe.read(measured / run_folder.RECIPE) != plan:
        raise RunError(f"{measured} was trained by another recipe; its figures say nothing of this one")
    known, provenance = Card.read(measured / tagger.BEST), Provenance.read(measured / tagger.BEST)
    for what, own in fed.items():
        if (other := provenance.origin.get(what)) != own:
            raise RunError(
                f"{measured} is another student: {what} {other}, here {own}; its figures say nothing of this"
            )
    if provenance.training_data.get("held out", "").endswith(HELD_OUT_BEFORE):
        raise RunError(f"{measured} learned from the held-out packages itself; name the run whose figures it has")
    if not _told_alike(known, judged):
        raise RunError(f"{measured} was told otherwise what scores mean; give --predictions to both runs or to none")
    return provenance


def _told_alike(known: Card, judged: model_card.TeacherCalibration | None) -> bool:
    """Whether a card says what scores mean as it would be said now; fits of two machines differ in the last digits."""
    if not known.calibration or not judged:
        return known.calibration is None and judged is None
    told = (*known.calibration.slopes, *known.calibration.offsets, *(known.priors or ()))
    own = (*judged.calibration.slopes, *judged.calibration.offsets, *judged.priors)
    return len(told) == len(own) and np.allclose(told, own, rtol=1e-6, atol=1e-6)


def _both(found: Music) -> Split:
    return replace(found.train, tracks=found.train.tracks + found.heldout.tracks)


def _packages(found: Music, tracks: Sequence[Track]) -> str:
    """How many tracks of which packages, with their licences; a track that came at several speeds counts once."""
    own = {track.id for split in (found.train, found.heldout) for track in split.tracks}
    tracks = [track for track in tracks if track.id in own]
    count = Counter(track.path.partition("/")[0] for track in tracks)
    hours = sum(track.seconds for track in tracks) / 3600
    each = "; ".join(f"{package} {number} ({found.licences[package]})" for package, number in count.items())
    return f"{len(tracks)} tracks, {hours:.1f} h: {each}"
