"""A file in, tags out; one model or the average of many.

In: audio; model names or folders. Out: scores, decisions, and the mood over time.
Knows nothing of: tables, pages, or how a model came to be.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from moodfield import audio, calibration, clips, errors, mel, parallel
from moodfield.audio import Envelope, Reader, Source
from moodfield.card import CARD, Card
from moodfield.engine import Engine, OnnxEngine
from moodfield.errors import ConfigError, ModelError, MoodfieldError, MoodfieldWarning
from moodfield.tagging import OverTime, Tagging

MODELS = Path(__file__).parent / "pretrained"
"""the models that come with the package, a folder each"""
TOGETHER = 8
"""excerpts that a network hears at once"""
BEST, AVERAGES = "best", "swa-*"
"""the model folders in a training run: its best epoch, and averages of its weights"""

AnySource = TypeVar("AnySource", bound=Source)
Map = Float32[np.ndarray, "tags time"]
Pieces = Iterable[Float32[np.ndarray, "_bands _frames"]]
Maps = list[Float32[np.ndarray, "tags _time"]]  # with underscores, since members may differ in bands and steps of time
Times = list[Float32[np.ndarray, "_time"]]


@dataclass(frozen=True)
class Member:
    """One model of a tagger: its card, and something that runs its network."""

    card: Card
    """what the model says about itself"""
    engine: Engine
    """what runs it"""

    def scores(self, logits: Float32[np.ndarray, "tags ..."]) -> Float32[np.ndarray, "tags ..."]:
        """Scores of its logits, calibrated if its card says how; slope and offset change no mean over time."""
        known = self.card.calibration
        return (known.scores(logits.T).T if known else calibration.sigmoid(logits)).astype(np.float32)


class Tagger:
    """One or more models ready to use; several are averaged after the sigmoid, as the paper does (§3.4)."""

    def __init__(self, members: Sequence[Member], *, clip_frames: int = clips.CLIP_FRAMES) -> None:
        """Members must agree on their vocabulary."""
        if not members:
            raise ModelError("no model came; name at least one")
        self.members = tuple(members)
        self.vocabulary = self.members[0].card.vocabulary
        for member in self.members[1:]:
            if member.card.vocabulary != self.vocabulary:
                names = f"{self.members[0].card.name!r} and {member.card.name!r}"
                raise ModelError(f"{names} have different vocabularies; only models with the same tags can be averaged")
        self.theme_vocabulary = self.members[0].card.themes
        thresholds = np.array([member.card.thresholds for member in self.members], np.float64)
        self.thresholds: Float32[np.ndarray, "tags"] = thresholds.mean(axis=0).astype(np.float32)
        stated = {member.card.priors for member in self.members}
        priors = stated.pop() if len(stated) == 1 else None  # a mean of models that disagree has no prior
        self.priors: Float32[np.ndarray, "tags"] | None = None if priors is None else np.array(priors, np.float32)
        self._clip_frames = clip_frames

    @property
    def digest(self) -> str:
        """What tells this tagger from others: a checksum of its models' cards, which vouch for their weights."""
        cards = "".join(member.card.to_json() for member in self.members)
        return hashlib.sha256(cards.encode()).hexdigest()

    def tag(self, source: Source) -> Tagging:
        """Tag one track: a path, the bytes of a file, a binary file object, or `(samples, sample_rate)`.

        Memory does not grow with the length of the music. Raises `AudioError` if it cannot be decoded or is no music.
        """
        logits, seconds, reader = self._listen(source)
        lengths = [member.card.lengths for member in self.members]
        moving = [index for index, each in enumerate(lengths) if not isinstance(each, clips.WholeTrack)]
        times = seconds[moving[0] if moving else 0]
        maps = [of.scores(each) for of, each in zip(self.members, logits, strict=True)]
        return Tagging(
            source=audio.source_name(source),
            duration=reader.duration,
            model="+".join(dict.fromkeys(member.card.name for member in self.members)),
            vocabulary=self.vocabulary,
            theme_vocabulary=self.theme_vocabulary,
            scores=_mean([of.scores(clips.pool(each)) for of, each in zip(self.members, logits, strict=True)]),
            thresholds=self.thresholds,
            over_time=OverTime(times, _mean(_aligned(maps, seconds, times))),
            priors=self.priors,
            envelope=reader.envelope,
            warnings=tuple(reader.warnings),
        )

    def tag_many(self, sources: Iterable[AnySource]) -> Iterator[tuple[AnySource, Tagging | MoodfieldError]]:
        """Tag many tracks, in order; one that cannot be tagged comes with its error and stops nothing."""
        if isinstance(sources, str | bytes):
            raise ConfigError(
                f"one source, {audio.source_name(sources)}, was given; give a list of sources, or call tag"
            )
        for source in sources:
            try:
                yield source, self.tag(source)
            except MoodfieldError as error:
                yield source, error

    def scores(self, mels: Sequence[Pieces]) -> Float32[np.ndarray, "tags"]:
        """Scores of a track whose mel is at hand, in pieces, once for every member and made by that member's config."""
        pooled = []
        for member, pieces in zip(self.members, mels, strict=True):
            listener = Listener(member, clip_frames=self._clip_frames)
            for piece in pieces:
                listener.push(piece)
            pooled.append(member.scores(clips.pool(listener.finish())))
        return _mean(pooled)

    def scores_of_excerpts(self, excerpts: Iterable[mel.Mel]) -> Float32[np.ndarray, "tags"]:
        """Scores of a track of which only some excerpts are at hand, all as long, each heard by itself.

        For taggers of one model.
        """
        [member] = self.members
        maps, coming = [], iter(excerpts)
        while batch := list(islice(coming, TOGETHER)):
            cuts = [clips.cut(excerpt, member.card.lengths, clip_frames=self._clip_frames) for excerpt in batch]
            heard = [
                member.engine.forward_features(np.stack([clip.mel for clip in together]))[:, :, together[0].keep]
                for together in zip(*cuts, strict=True)
            ]
            maps += [_checked(member, each) for each in member.engine.forward_head(np.concatenate(heard, axis=2))]
        return member.scores(clips.pool(np.concatenate(maps, axis=1)))

    def _listen(self, source: Source) -> tuple[Maps, Times, "_EnvelopeReader"]:
        """Every member's logits over time, the times of their steps, and the reader of the source."""
        logits: dict[int, tuple[Map, Float32[np.ndarray, "time"]]] = {}
        reader: _EnvelopeReader | None = None
        for config in dict.fromkeys(member.card.mel for member in self.members):
            listeners = {
                index: Listener(member, clip_frames=self._clip_frames)
                for index, member in enumerate(self.members)
                if member.card.mel == config
            }
            reader = _EnvelopeReader(source, config.sample_rate, before=reader)
            for piece in mel.stream(reader, config):
                for listener in listeners.values():
                    listener.push(piece)
            for index, listener in listeners.items():
                found = listener.finish()
                logits[index] = found, listener.seconds(found.shape[1])
        maps, seconds = zip(*(logits[index] for index in range(len(self.members))), strict=True)
        assert reader is not None
        return list(maps), list(seconds), reader


class Listener:
    """One member that hears one track, piece by piece of its mel."""

    def __init__(self, member: Member, *, clip_frames: int = clips.CLIP_FRAMES) -> None:
        self._member = member
        self._cutter = clips.Cutter(member.card.lengths, clip_frames=clip_frames)
        self._maps: list[Float32[np.ndarray, "_channels _time"]] = []
        self._frames = 0

    def push(self, piece: mel.Mel) -> None:
        """Hear the next piece."""
        self._frames += piece.shape[1]
        self._hear(self._cutter.push(piece))

    def finish(self) -> Map:
        """The logits of the whole track over time."""
        self._hear(self._cutter.finish())
        heard = np.concatenate(self._maps, axis=1)
        if not isinstance(self._member.card.lengths, clips.WholeTrack):
            return heard
        return _checked(self._member, self._member.engine.forward_head(heard[None])[0])

    def seconds(self, steps: int) -> Float32[np.ndarray, "time"]:
        """When each of the steps is, from the start of the track."""
        config = self._member.card.mel
        centres = clips.centres(steps, self._frames, self._member.card.lengths)
        return (centres * (config.hop_length / config.sample_rate)).astype(np.float32)

    def _hear(self, ready: Iterable[clips.Clip]) -> None:
        for clip in ready:
            heard = self._member.engine.forward_features(clip.mel[None])[0]
            whole = isinstance(self._member.card.lengths, clips.WholeTrack)
            self._maps.append((heard if whole else _checked(self._member, heard))[:, clip.keep])


def load(*what: str | Path, threads: int = 0) -> Tagger:
    """A tagger of models by name, by folder or by training run; several are averaged; nothing means the bundled model.

    A run is the mean of its snapshots.

    `threads` is how many cores a network may use, 0 for all. Raises `UnknownNameError` or `ModelError`; warns with
    `MoodfieldWarning` if the scores of several models are not comparable.
    """
    tagger = _tagger(what, threads)
    raw = [member.card.name for member in tagger.members if member.card.calibration is None]
    if 0 < len(raw) < len(tagger.members):
        words = f"{', '.join(raw)} among calibrated models: scores that are not calibrated may be far higher or lower"
        warnings.warn(f"{words}, and rule the mean; average models of one kind", MoodfieldWarning, stacklevel=2)
    return tagger


def tag_files(
    sources: Sequence[Path], *what: str | Path, jobs: int = 1
) -> Iterator[tuple[Path, Tagging | MoodfieldError]]:
    """Listen to many files in several processes, each of which loads the models once; in order.

    What cannot be heard comes with its error and stops nothing, even if it kills its process.
    """
    names = tuple(str(each) for each in what)
    tagger = load(*names)  # here even if others do the work: a model that cannot be used is refused once, not per file
    if jobs > 1:
        yield from parallel.map(partial(_tag_one, names), sources, jobs=jobs)
    else:
        yield from tagger.tag_many(sources)


def models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob(f"*/{CARD}"))}


def folder(what: str | Path) -> Path:
    """The model folder that is meant by a name, a folder or a finished run; refuses others like `load`."""
    path = Path(what)
    for place in (path, path / BEST):
        if os.path.isfile(place / CARD):  # noqa: PTH113 (a name too long for a path is no folder either)
            return place
    if os.path.isdir(path):  # noqa: PTH112
        raise ModelError(f"{path} is a folder without a {CARD}; name a model folder or a finished run")
    return errors.get_or_suggest(models(), str(what), what="model (nor a model folder)")


def _tagger(what: Sequence[str | Path], threads: int) -> Tagger:
    """A tagger whose every network was tried."""
    members = [_member(place, threads) for each in what or ("default",) for place in _folders(each)]
    for member in members:
        _try(member)
    return Tagger(members)


def _folders(what: str | Path) -> list[Path]:
    """The model folders that are meant: of a run, all its snapshots."""
    first = folder(what)
    if first == Path(what) or first.name != BEST:
        return [first]
    averages = [path.parent for path in Path(what).glob(f"{AVERAGES}/{CARD}")]
    return [first, *sorted(averages, key=lambda path: (len(path.name), path.name))]


def _member(place: Path, threads: int) -> Member:
    """The model in a folder."""
    card = Card.read(place)
    return Member(card, OnnxEngine(*(place / name for name in card.network_files), threads=threads))


def _checked(member: Member, logits: Map) -> Map:
    """The very same, if they can be logits."""
    if logits.shape[0] != len(member.card.vocabulary) or not np.isfinite(logits).all():
        raise ModelError(
            f"the network of {member.card.name!r} gave {logits.shape[0]} logits, maybe not finite, for "
            f"{len(member.card.vocabulary)} tags; its weights are damaged: get the model again"
        )
    return logits


def _try(member: Member) -> None:
    """Hear a moment of nothing: a network that does not fit its card is refused at once, not file by file."""
    lengths = member.card.lengths
    frames = lengths.frames if isinstance(lengths, clips.FixedLength) else lengths.min_frames
    listener = Listener(member)
    listener.push(np.zeros((member.card.mel.n_mels, frames), np.float32))
    listener.finish()


def _tag_one(what: tuple[str, ...], source: Path) -> Tagging:
    return _loaded(what).tag(source)


@lru_cache(maxsize=1)
def _loaded(what: tuple[str, ...]) -> Tagger:
    """The tagger of a process, on one core, loaded once."""
    return _tagger(what, threads=1)


class _EnvelopeReader(Reader):
    """A reader that also measures duration and, once, the peak envelope; one `before` it hands its own on."""

    def __init__(self, source: Source, rate: int, *, before: "_EnvelopeReader | None" = None) -> None:
        super().__init__(source, sample_rate=rate)
        self.duration = 0.0
        self.envelope: Envelope | None = before.envelope if before else None
        if before:
            self.warnings = before.warnings

    def __call__(self) -> Iterator[mel.Samples]:
        count, outline = 0, None if self.envelope else audio.PeakEnvelope(self.sample_rate)
        for block in super().__call__():
            count += len(block)
            if outline:
                outline.push(block)
            yield block
        self.duration = count / self.sample_rate
        if outline:
            self.envelope = outline.finish()


def _aligned(maps: Maps, seconds: Times, wanted: Float32[np.ndarray, "_time"]) -> list[Map]:
    """Maps of different steps of time, all at the wanted times; one judgement of a whole track holds for all."""
    return [
        each if np.array_equal(times, wanted) else np.array([np.interp(wanted, times, row) for row in each], np.float32)
        for each, times in zip(maps, seconds, strict=True)
    ]


def _mean(arrays: Sequence[Float32[np.ndarray, "..."]]) -> Float32[np.ndarray, "..."]:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
