"""A teacher's opinion of music becomes truth for a smaller network.

In: a published checkpoint and freely licensed music. Out: a run whose student says of music what the teacher says.
Knows nothing of: how networks are built, or how the music was fetched.
"""

import csv
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from moodfield import audio, calibration, card, files, fleet, mel, nets, tagger, tags
from moodfield.card import Card
from moodfield.errors import BadDataset, BadModel, BadRun, MoodfieldError
from moodfield.jamendo import Split, Track
from moodfield.mel import MelConfig
from moodfield.tagger import Listener, Member
from moodfield.training import export, loop, perform, recipe, runs, testimony, validation
from moodfield.training.augment import AugmentConfig
from moodfield.training.averaging import AveragingConfig
from moodfield.training.batches import BatchConfig, Material, TrackTruth, WindowTruth
from moodfield.training.loop import Epoch
from moodfield.training.recipe import LossConfig, Recipe
from moodfield.training.runs import Heard, Place
from moodfield.training.schedule import ScheduleConfig
from moodfield.training.store import Statistics, Store
from moodfield.training.testimony import Opinions, Terms

COLUMNS = ("split", "package", "path", "seconds", "licence")
"""columns of a manifest of music that are read"""

TEACHER_WINDOW = nets.VGGConfig().frames / mel.ORGANISERS.frames_per_second
"""seconds that a window of the teacher lasts"""
TEACHER_STEP = (nets.VGGConfig().frames // 2) / mel.ORGANISERS.frames_per_second
"""seconds from one of its windows to the next"""
STUDENT = Recipe(
    net=nets.CPResNetConfig(width=64, rho_freq=9, rho_time=9, frequency_aware=True),
    mel=MelConfig(rate=12_000, window=1_024, overlap=0.25, bands=128, kind="plain"),
    batch=BatchConfig(clip_seconds=TEACHER_WINDOW),
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
        raise BadDataset(f"{path} cannot be read as a manifest of music: {error}") from error
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise BadDataset(f"{path} lacks the columns {', '.join(sorted(missing))}")
    tracks: dict[str, list[Track]] = {"train": [], "heldout": []}
    licences: dict[str, dict[str, None]] = {}
    for row in rows:
        name = f"{row['package']}/{row['path']}"
        if row["split"] not in tracks:
            raise BadDataset(f"{path}: split {row['split']!r} of {name}; 'train' and 'heldout' are known")
        try:
            seconds = float(row["seconds"])
        except (TypeError, ValueError) as error:  # a short row has None
            raise BadDataset(f"{path}: {row['seconds']!r} seconds of {name}; give a number") from error
        if row["licence"] is None:
            raise BadDataset(f"{path}: no licence of {name}, whose row is too short")
        tracks[row["split"]].append(Track(name, name, seconds, ()))
        licences.setdefault(row["package"], {})[row["licence"]] = None
    for split, known in tracks.items():
        if not known:
            raise BadDataset(f"{path} has no track in split {split!r}; some packages are learned from, others held out")
    train, heldout = (Split(tuple(tracks[split]), tags.MOODS_AND_THEMES) for split in ("train", "heldout"))
    named = {package: ", ".join(kinds) for package, kinds in licences.items()}
    return Music(train, heldout, named, hashlib.sha256(text).hexdigest())


def teacher(checkpoint: str | Path, folder: str | Path) -> Path:
    """The model folder of the organisers' baseline, made from its published checkpoint unless it is there."""
    digest = _digest(checkpoint)
    model = Path(folder) / f"teacher-{digest[:12]}" / "model"
    if not (model / card.CARD).is_file():
        plan = Recipe(net=nets.VGGConfig(), mel=mel.ORGANISERS)
        described = export.describe(
            plan,
            net := nets.published(checkpoint),
            tags.MOODS_AND_THEMES,
            name="vggish",
            summary="The organisers' VGG-ish baseline of MediaEval 2019, trained on MTG-Jamendo.",
            licence="Apache-2.0 (the repository of the MTG-Jamendo dataset, which publishes it)",
            origin={"checkpoint": f"{Path(checkpoint).name}, SHA-256 {digest}"},
        )
        export.export(net, described, model)
    return model


def listen(
    model: Path, tracks: Sequence[Track], music: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """Write what the teacher says of every window of every track, unless it is there; failures come as their errors.

    `model` is the folder of the teacher; its opinions lie beside it.
    """
    work = [(Path(music) / track.path, _opinion(model, track)) for track in tracks]
    for track, (_, result) in zip(tracks, fleet.each(partial(_listen, model), work, jobs=jobs), strict=True):
        yield track, result


def truth(model: Path, tracks: Sequence[Track], student: MelConfig) -> WindowTruth:
    """What the teacher said of the windows of these tracks, as truth for a student with its own mel."""
    windows = tuple(np.load(_opinion(model, track), allow_pickle=False) for track in tracks)
    return WindowTruth(windows, step=TEACHER_STEP * student.frames_per_second)


@dataclass(frozen=True)
class Lesson:
    """What a student learns, and what it is judged by."""

    learn: Material
    """mels of the training packages, and what the teacher said of their windows"""
    judge: Material
    """the same of the packages held out"""
    learned: tuple[Track, ...]
    """the tracks of `learn`, in its order"""
    judged: tuple[Track, ...]
    """the tracks of `judge`, in its order"""
    statistics: Statistics
    """of the mels of `learn`"""


def lesson(
    plan: Recipe,
    found: Music,
    checkpoint: str | Path,
    place: Place,
    *,
    speeds: Sequence[float] = (),
    heard: Heard = lambda *_: None,
) -> Lesson:
    """Let the teacher, and the student's mel, hear all music once and for good; what cannot be heard is left out.

    Music to learn from is also heard at other `speeds`: more music, with a truth of its own.
    """
    model = teacher(checkpoint, place.mels)
    mels = Store(place.mels, plan.mel)
    kept, materials = [], []
    for split in (_also_at(speeds, found.train, place), found.heldout):
        for track, result in listen(model, split.tracks, place.music, jobs=place.jobs):
            heard(track, result if isinstance(result, MoodfieldError) else None)
        rows = runs.gather(split.tracks, plan, place, heard=heard)
        tracks = split.take([row for row in rows if _opinion(model, split.tracks[row]).is_file()]).tracks
        kept.append(tracks)
        materials.append(Material(tuple(map(mels.open, tracks)), truth(model, tracks, plan.mel)))
    (learn, judge), (learned, judged) = materials, kept
    return Lesson(learn, judge, learned, judged, mels.statistics(learned))


def distill(
    plan: Recipe,
    found: Music,
    checkpoint: str | Path,
    place: Place,
    *,
    speeds: Sequence[float] = (),
    measured: Path | None = None,
    judged: testimony.Judged | None = None,
    terms: Terms = testimony.UNSAID,
    appendix: str = "",
    heard: Heard = lambda *_: None,
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
    fed = _fed(checkpoint, found, speeds)
    before = _card_of(measured, plan, fed, judged) if measured else None
    music = replace(found, train=_both(found)) if measured else found
    given = lesson(plan, music, checkpoint, place, speeds=speeds, heard=heard)
    vocabulary, folder = found.train.vocabulary, place.run / "draft"
    net = loop.train(plan, given.learn, given.judge, given.statistics, vocabulary, place.run, report=report)
    loop.load(net, list(loop.snapshots(plan, place.run).values())[-1])
    draft = export.describe(plan, net, vocabulary, name=terms.name, summary=terms.summary, licence=terms.licence)
    export.export(net, judged.tell(draft) if judged else draft, folder)
    draft, (teacher, student, names) = card.read(folder), _opinions(folder, given, found, judged)
    origin = {
        **terms.origin,
        **fed,
        "seed": str(plan.seed),
        "cost": testimony.cost([place.run, *([measured] if measured else [])]),
        **draft.origin,
        "thresholds": "chosen on all of the music, by the scores alone, to decide like the teacher",
        "held out": _packages(found, given.judged) + (HELD_OUT_BEFORE if measured else ""),
        "learned from": _packages(found, given.learned),
    }
    figures, examples = (before.figures, before.examples) if before else testimony.seen(teacher, student, names)
    described = replace(
        draft,
        thresholds=tuple(student.thresholds.tolist()),
        origin=origin,
        figures=dict(figures) | dict(draft.figures),
        limits=terms.limits,
        examples=examples,
        appendix=appendix,
    )
    export.label(described, folder)
    return card.read(files.replace_directory(folder, place.run / tagger.BEST))


def _fed(checkpoint: str | Path, found: Music, speeds: Sequence[float]) -> dict[str, str]:
    """What a student learns from; two with the same recipe that were fed the same learn the same."""
    return {
        "taught by": f"a checkpoint, SHA-256 {_digest(checkpoint)}",
        "music": f"a manifest, SHA-256 {found.manifest}",
        "speeds": ", ".join(f"{each:g}" for each in sorted({1.0, *speeds})),
    }


def _opinions(
    folder: Path, given: Lesson, found: Music, judged: testimony.Judged | None
) -> tuple[Opinions, Opinions, list[str]]:
    """What the teacher says of all music, what the student in a model folder says; what held-out tracks are called."""
    pieces, tracks = _own(given, found)
    heldout, priors = np.array([track in found.heldout.tracks for track in tracks]), judged.priors if judged else None
    known = judged.calibration.scores if judged else calibration.sigmoid
    teacher = Opinions(known(pieces.truth.tracks()), heldout, priors)
    student = Opinions(validation.scores(tagger.load(folder), pieces), heldout, priors, like=teacher)
    return teacher, student, [_title(track) for track in itertools.compress(tracks, heldout)]


def _own(given: Lesson, found: Music) -> tuple[Material, tuple[Track, ...]]:
    """All the music as it is, every track once: at other speeds it is no music of its own."""
    known = {track for split in (found.train, found.heldout) for track in split.tracks}
    parts = ((given.learned, given.learn), (given.judged, given.judge))
    kept = {
        track: (stored, row)
        for tracks, part in parts
        for track, stored, row in zip(tracks, part.mels, part.truth.tracks(), strict=True)
        if track in known
    }
    mels, rows = zip(*kept.values(), strict=True)
    return Material(mels, TrackTruth(np.stack(rows))), tuple(kept)


def _title(track: Track) -> str:
    """What a track is called: its file, and its package."""
    return f"{Path(track.path).stem.replace('_', ' ')} ({track.path.partition('/')[0]})"


def _card_of(measured: Path, plan: Recipe, fed: Mapping[str, str], judged: testimony.Judged | None) -> Card:
    """The card of a run that learned in the same way from the training packages alone."""
    if recipe.read(measured / loop.RECIPE) != plan:
        raise BadRun(f"{measured} was trained by another recipe; its figures say nothing of this one")
    known = card.read(measured / tagger.BEST)
    for what, own in fed.items():
        if (other := known.origin.get(what)) != own:
            raise BadRun(f"{measured} is another student: {what} {other}, here {own}; its figures say nothing of this")
    if known.origin.get("held out", "").endswith(HELD_OUT_BEFORE):
        raise BadRun(f"{measured} learned from the held-out packages itself; name the run whose figures it has")
    if not _told_alike(known, judged):
        raise BadRun(f"{measured} was told otherwise what scores mean; give --predictions to both runs or to none")
    return known


def _told_alike(known: Card, judged: testimony.Judged | None) -> bool:
    """Whether a card says what scores mean as it would be said now; fits of two machines differ in the last digits."""
    if not known.calibration or not judged:
        return known.calibration is None and judged is None
    told = (*known.calibration.slopes, *known.calibration.offsets, *(known.priors or ()))
    own = (*judged.calibration.slopes, *judged.calibration.offsets, *judged.priors)
    return len(told) == len(own) and np.allclose(told, own, rtol=1e-6, atol=1e-6)


def _both(found: Music) -> Split:
    return replace(found.train, tracks=found.train.tracks + found.heldout.tracks)


def _also_at(speeds: Sequence[float], split: Split, place: Place) -> Split:
    """A split whose tracks come at other speeds, too; those that cannot be read will be missed later, and reported."""
    played = [
        track
        for speed in sorted(set(speeds))
        for track, _ in perform.play(split.tracks, place.music, speed, jobs=place.jobs)
    ]
    return replace(split, tracks=(*split.tracks, *played))


def _packages(found: Music, tracks: Sequence[Track]) -> str:
    """How many tracks of which packages, with their licences; a track that came at several speeds counts once."""
    own = {track.id for split in (found.train, found.heldout) for track in split.tracks}
    tracks = [track for track in tracks if track.id in own]
    count = Counter(track.path.partition("/")[0] for track in tracks)
    hours = sum(track.seconds for track in tracks) / 3600
    each = "; ".join(f"{package} {number} ({found.licences[package]})" for package, number in count.items())
    return f"{len(tracks)} tracks, {hours:.1f} h: {each}"


def _digest(checkpoint: str | Path) -> str:
    """The SHA-256 of a teacher."""
    try:
        return files.sha256(Path(checkpoint))
    except OSError as error:
        raise BadModel(f"the teacher {checkpoint} cannot be read: {error.strerror}") from error


def _opinion(model: Path, track: Track) -> Path:
    """Where the teacher's logits for the windows of a track are kept: beside its model folder."""
    return model.parent / f"{track.path}.npy"


def _listen(model: Path, work: tuple[Path, Path]) -> Path:
    source, target = work
    if target.is_file():
        return target
    listener = Listener(_member(model))
    for piece in mel.stream(partial(audio.blocks, source, rate=mel.ORGANISERS.rate), mel.ORGANISERS):
        listener.push(piece)
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(listener.finish().T), allow_pickle=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write(target, content.getvalue())
    return target


@lru_cache(maxsize=1)
def _member(model: Path) -> Member:
    """The teacher on one core, loaded once in every process."""
    return tagger.load(model, threads=1).members[0]
