"""Load models and tag tracks with one model or with the mean of several."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from moodfield import audio, calibration, clips, decisions, errors, mel, parallel
from moodfield.audio import Envelope, Reader, Source
from moodfield.card import CARD, Card, Head
from moodfield.engine import Device, OnnxEngine
from moodfield.errors import ConfigError, ModelError, MoodfieldError, MoodfieldWarning, WorkerCrashedError
from moodfield.mel import MelConfig
from moodfield.predictor import Blocks, Embedding, LoadedModel, LogitMap, TrackOutput, TrackPredictor
from moodfield.tagging import OverTime, Tagging

PRETRAINED = Path(__file__).parent / "pretrained"
"""the models that come with the package, one folder each"""
EXCERPT_BATCH = 8
"""excerpts per call of a network"""
BEST, AVERAGES = "best", "swa-*"
"""the model folders in a training run: the best epoch, and averages of weights"""

AnySource = TypeVar("AnySource", bound=Source)
Scores = Float32[np.ndarray, "tags"]
LogitMaps = list[Float32[np.ndarray, "tags _time"]]  # underscores: models may differ in mel bands and time steps
Times = list[Float32[np.ndarray, "_time"]]


@dataclass(frozen=True, eq=False)
class TrackMels:
    """The mels of a track, and what else its tagging has of the waveform."""

    source: str
    """path of the file, or the kind of source"""
    duration: float
    """seconds"""
    mels: tuple[mel.Mel, ...]
    """one for each of `Tagger.mel_configs`"""
    envelope: Envelope | None
    """peak envelope; None if there were no samples"""
    warnings: tuple[str, ...]
    """one line for each damaged part that was skipped"""


class Tagger:
    """Tags tracks with one or more models; scores of several models are averaged after the sigmoid (§3.4)."""

    def __init__(self, models: Sequence[LoadedModel], *, clip_frames: int = clips.CLIP_FRAMES) -> None:
        """Create a tagger.

        Args:
            models: One or more models with the same vocabulary. Thresholds are averaged like scores, unless all models
                have reference statistics, from which those of the mean score follow; priors are kept only if all models
                have the same. A model with further heads is used alone.
            clip_frames: Frames of mel per call of a network that takes any length.

        Raises:
            ModelError: There is no model, the vocabularies differ, or one of several models has further heads.
        """
        if not models:
            raise ModelError("a tagger needs at least one model, and none was given")
        self.models = tuple(models)
        cards = [model.card for model in models]
        self.vocabulary, self.theme_vocabulary = cards[0].vocabulary, cards[0].themes
        for card in cards[1:]:
            if card.vocabulary != self.vocabulary:
                raise ModelError(
                    f"the vocabularies of {cards[0].name!r} and {card.name!r} differ; average models with the same tags"
                )
            if cards[0].heads or card.heads:
                raise ModelError(f"{cards[0].name!r} or {card.name!r} has further heads; such a model is used alone")
        thresholds = np.array([card.thresholds for card in cards], np.float64).mean(axis=0)
        priors = {card.priors for card in cards}
        common = priors.pop() if len(priors) == 1 else None
        self.priors: Scores | None = None if common is None else np.array(common, np.float32)
        usual = [card.usual for card in cards if card.usual]
        self.statistics = decisions.usual_mean(usual) if len(usual) == len(cards) else None
        if self.statistics and len(cards) > 1:
            thresholds = np.where(thresholds >= 1, thresholds, calibration.sigmoid(self.statistics.cuts))
        self.thresholds: Scores = np.asarray(thresholds, np.float32)
        self._clip_frames = clip_frames

    @property
    def digest(self) -> str:
        """SHA-256 of the models' cards, which list the checksums of their weights."""
        return hashlib.sha256("".join(model.card.to_json() for model in self.models).encode()).hexdigest()

    def tag(self, source: Source) -> Tagging:
        """Tag one track, in memory that does not grow with its length.

        Args:
            source: Path, bytes of a file, binary file object, `Waveform`, or tuple `(samples, sample_rate)`.

        Raises:
            AudioError: The source cannot be decoded, or is silent or too short.

        Example:
            >>> import numpy as np, moodfield
            >>> samples = np.sin(2 * np.pi * 220 * np.arange(5 * 12_000) / 12_000).astype(np.float32)
            >>> tagging = moodfield.load().tag((samples, 12_000))
            >>> tagging.duration, len(tagging.scores)
            (5.0, 56)
        """
        outputs, times, reader = self._predict(source)
        track = TrackMels(audio.source_name(source), reader.duration, (), reader.envelope, tuple(reader.warnings))
        return self._combine(outputs, times, track)

    def compute_mels(self, source: Source, *, max_bytes: int = 2**31) -> TrackMels | None:
        """The mels of a track for `tag_mels`, or None if they have more bytes; raises as `tag` does."""
        mels, reader, size = [], None, 0
        for config in self.mel_configs:
            reader = _EnvelopeReader(source, config.sample_rate, before=reader)
            blocks = []
            for block in mel.stream(reader, config):
                size += block.nbytes
                if size > max_bytes:
                    return None
                blocks.append(block)
            mels.append(np.concatenate(blocks, axis=1))
        assert reader is not None
        name, warnings = audio.source_name(source), tuple(reader.warnings)
        return TrackMels(name, reader.duration, tuple(mels), reader.envelope, warnings)

    def tag_mels(self, tracks: Sequence[TrackMels]) -> list[Tagging | MoodfieldError]:
        """Tag tracks by their mels, with the clips of several tracks in one batch; errors of tracks are returned."""
        by_model = []
        for model in self.models:
            number = self.mel_configs.index(model.card.mel)
            mels = [track.mels[number] for track in tracks]
            by_model.append(TrackPredictor.predict_tracks(model, mels, clip_frames=self._clip_frames))
        results: list[Tagging | MoodfieldError] = []
        for track, *predicted in zip(tracks, *by_model, strict=True):
            failed = [item for item in predicted if isinstance(item, MoodfieldError)]
            outputs = [item for item in predicted if not isinstance(item, MoodfieldError)]
            if failed:
                results.append(failed[0])
            else:
                results.append(self._combine([item[0] for item in outputs], [item[1] for item in outputs], track))
        return results

    @property
    def mel_configs(self) -> list[MelConfig]:
        """The different mel configs of the models."""
        return list(dict.fromkeys(model.card.mel for model in self.models))

    def tag_many(self, sources: Iterable[AnySource]) -> Iterator[tuple[AnySource, Tagging | MoodfieldError]]:
        """Tag tracks in order; a track that cannot be tagged gives its error instead of a tagging."""
        if isinstance(sources, str | bytes):
            raise ConfigError(
                f"tag_many needs a list of sources, not {audio.source_name(sources)}; call tag for one source"
            )
        for source in sources:
            try:
                yield source, self.tag(source)
            except MoodfieldError as error:
                yield source, error
            except MemoryError as error:
                message = f"there is too little memory to tag {audio.source_name(source)} ({error}); leave it out"
                yield source, WorkerCrashedError(message)

    def predict(self, mels: Sequence[Blocks]) -> Scores:
        """Scores of a track from its mel: for every model the blocks of the mel made with that model's config."""
        pooled = []
        for model, blocks in zip(self.models, mels, strict=True):
            output = TrackPredictor(model, clip_frames=self._clip_frames).predict(blocks)
            pooled.append(model.scores(clips.pool(output.logits)))
        return _mean(pooled)

    def predict_excerpts(self, excerpts: Iterable[mel.Mel]) -> Scores:
        """Scores of a track from excerpts of its mel of equal length, each predicted by itself; for a single model."""
        [model] = self.models
        maps, remaining = [], iter(excerpts)
        while batch := list(islice(remaining, EXCERPT_BATCH)):
            cuts = [clips.cut(excerpt, model.card.lengths, clip_frames=self._clip_frames) for excerpt in batch]
            features = [
                model.engine.forward_features(np.stack([clip.mel for clip in column]))[:, :, column[0].keep]
                for column in zip(*cuts, strict=True)
            ]
            logits = model.engine.forward_head(np.concatenate(features, axis=2)).logits
            maps += [model.check_logits(model.card, map_) for map_ in logits]
        return model.scores(clips.pool(np.concatenate(maps, axis=1)))

    def _combine(self, outputs: Sequence[TrackOutput], times: Times, track: TrackMels) -> Tagging:
        """The tagging of a track from the outputs of all models."""
        pooled = [model.scores(clips.pool(output.logits)) for model, output in zip(self.models, outputs, strict=True)]
        maps = [model.scores(output.logits) for model, output in zip(self.models, outputs, strict=True)]
        # Models that pool whole tracks have one time step; the steps of the first other model are used, if any.
        pooling = [isinstance(model.card.lengths, clips.WholeTrack) for model in self.models]
        seconds = times[pooling.index(False) if False in pooling else 0]
        tagging = Tagging(
            source=track.source,
            duration=track.duration,
            model="+".join(dict.fromkeys(model.card.name for model in self.models)),
            vocabulary=self.vocabulary,
            theme_vocabulary=self.theme_vocabulary,
            scores=_mean(pooled),
            thresholds=self.thresholds,
            over_time=OverTime(seconds, _mean(_interpolate(maps, times, seconds))),
            priors=self.priors,
            embedding=_concatenate([output.embedding for output in outputs]),
            statistics=self.statistics,
            envelope=track.envelope,
            warnings=track.warnings,
        )
        further = zip(self.models[0].card.heads, outputs[0].heads, strict=True)
        return replace(tagging, heads=tuple(_tag_head(tagging, head, logits) for head, logits in further))

    def _predict(self, source: Source) -> "tuple[list[TrackOutput], Times, _EnvelopeReader]":
        """Outputs of every model, the times of their steps, and the reader; one pass for each mel config."""
        predictors = [TrackPredictor(model, clip_frames=self._clip_frames) for model in self.models]
        reader: _EnvelopeReader | None = None
        for config in self.mel_configs:
            reader = _EnvelopeReader(source, config.sample_rate, before=reader)
            for block in mel.stream(reader, config):
                for predictor in predictors:
                    if predictor.model.card.mel == config:
                        predictor.push(block)
        assert reader is not None
        outputs = [predictor.finish() for predictor in predictors]
        times = [predictor.times(output.logits.shape[1]) for predictor, output in zip(predictors, outputs, strict=True)]
        return outputs, times, reader


def load(*models: str | Path, threads: int = 0, device: Device = "cpu") -> Tagger:
    """Load models as a tagger.

    Args:
        models: Names of pretrained models, model folders, or training runs (all snapshots of a run). Without any, the
            model `default`. With several, scores and thresholds are averaged per tag. The mean of thresholds is exact
            for snapshots of one run; the mean score of unrelated models varies less than the score of one, so their
            mean thresholds tend to decide fewer tags: choose thresholds of your own with `moodfield thresholds`.
        threads: Number of cores that a network may use; 0 means all.
        device: Where networks run; `cuda` needs onnxruntime-gpu.

    Returns:
        A tagger whose networks have been run once.

    Raises:
        UnknownNameError: No model has this name.
        ModelError: A model folder is damaged, or the models have different vocabularies.

    Example:
        >>> import moodfield
        >>> tagger = moodfield.load("default")
        >>> len(tagger.vocabulary)
        56
    """
    tagger = _load(models, threads, device)
    raw = [model.card.name for model in tagger.models if model.card.calibration is None]
    if 0 < len(raw) < len(tagger.models):
        warnings.warn(
            f"{', '.join(raw)} is not calibrated and other models are: their scores are on different scales, and the "
            "larger ones dominate the mean; average models of one kind",
            MoodfieldWarning,
            stacklevel=2,
        )
    return tagger


def tag_files(
    paths: Sequence[Path], *models: str | Path, jobs: int = 1
) -> Iterator[tuple[Path, Tagging | MoodfieldError]]:
    """Tag files in `jobs` processes, each of which loads the models once.

    Yields:
        Path and tagging, in order; for a file that cannot be tagged, or that crashes its process, path and error.
    """
    names = tuple(map(str, models))
    tagger = load(*names)  # also if jobs > 1: a broken model raises once here instead of for every file
    if jobs > 1:
        yield from parallel.map(partial(_tag_file, names), paths, jobs=jobs)
    else:
        yield from tagger.tag_many(paths)


def pretrained_models() -> dict[str, Path]:
    """The models that come with the package: name → folder.

    Example:
        >>> "default" in pretrained_models()
        True
    """
    return {path.parent.name: path.parent for path in sorted(PRETRAINED.glob(f"*/{CARD}"))}


def model_folder(model: str | Path) -> Path:
    """Folder of a model given by name, by folder or by finished training run (its best model); raises like `load`."""
    path = Path(model)
    for folder in (path, path / BEST):
        if os.path.isfile(folder / CARD):  # noqa: PTH113 (False instead of an error for a name too long for a path)
            return folder
    if os.path.isdir(path):  # noqa: PTH112
        raise ModelError(f"{path} is a folder without a {CARD}; give a model folder or a finished run")
    return errors.get_or_suggest(pretrained_models(), str(model), what="model (nor a model folder)")


def _load(models: Sequence[str | Path], threads: int, device: Device = "cpu") -> Tagger:
    """Load models and run each network once on silence, so that a network that does not fit its card raises here."""
    loaded = []
    for folder in (folder for model in models or ("default",) for folder in _snapshot_folders(model)):
        card = Card.read(folder)
        engine = OnnxEngine(*(folder / name for name in card.network_files), threads=threads, device=device)
        loaded.append(LoadedModel(card, engine))
    for model in loaded:
        lengths, predictor = model.card.lengths, TrackPredictor(model)
        frames = lengths.frames if isinstance(lengths, clips.FixedLength) else lengths.min_frames
        predictor.push(np.zeros((model.card.mel.n_mels, frames), np.float32))
        predictor.finish()
    return Tagger(loaded)


def _snapshot_folders(model: str | Path) -> list[Path]:
    """The folder of a model; of a run, the folders of all its snapshots."""
    best = model_folder(model)
    if best == Path(model) or best.name != BEST:
        return [best]
    averages = [path.parent for path in Path(model).glob(f"{AVERAGES}/{CARD}")]
    return [best, *sorted(averages, key=lambda path: (len(path.name), path.name))]


def _tag_head(tagging: Tagging, head: Head, logits: LogitMap) -> Tagging:
    """The tagging of a track by a further head."""
    return replace(
        tagging,
        model=head.name,
        vocabulary=head.vocabulary,
        theme_vocabulary=(),
        scores=calibration.scores(head.calibration, clips.pool(logits)),
        thresholds=np.array(head.thresholds, np.float32),
        over_time=OverTime(tagging.over_time.seconds, calibration.scores(head.calibration, logits)),
        priors=None if head.priors is None else np.array(head.priors, np.float32),
        statistics=None,
    )


def _tag_file(names: tuple[str, ...], path: Path) -> Tagging:
    return _load_once(names).tag(path)


@lru_cache(maxsize=1)
def _load_once(names: tuple[str, ...]) -> Tagger:
    """The tagger of a worker process, on one core."""
    return _load(names, threads=1)


class _EnvelopeReader(Reader):
    """A reader that also measures the duration and, in the first of several passes, the peak envelope."""

    def __init__(self, source: Source, rate: int, *, before: "_EnvelopeReader | None" = None) -> None:
        super().__init__(source, sample_rate=rate)
        self.duration = 0.0
        self.envelope: Envelope | None = before.envelope if before else None
        if before:
            self.warnings = before.warnings

    def __call__(self) -> Iterator[mel.Samples]:
        count, peaks = 0, None if self.envelope else audio.PeakEnvelope(self.sample_rate)
        for block in super().__call__():
            count += len(block)
            if peaks:
                peaks.push(block)
            yield block
        self.duration = count / self.sample_rate
        if peaks:
            self.envelope = peaks.finish()


def _interpolate(maps: LogitMaps, times: Times, wanted: Float32[np.ndarray, "_time"]) -> LogitMaps:
    """Score maps with different time steps, interpolated to the wanted times; a single step holds for all times."""
    return [
        map_
        if np.array_equal(seconds, wanted)
        else np.array([np.interp(wanted, seconds, row) for row in map_], np.float32)
        for map_, seconds in zip(maps, times, strict=True)
    ]


def _concatenate(embeddings: Sequence[Embedding | None]) -> Embedding | None:
    """The embeddings of all models, one after the other; None if a model has none."""
    present = [embedding for embedding in embeddings if embedding is not None]
    return np.concatenate(present) if len(present) == len(embeddings) else None


def _mean(arrays: Sequence[Float32[np.ndarray, "..."]]) -> Float32[np.ndarray, "..."]:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
