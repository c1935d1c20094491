"""The outputs of one model for one track: logits over time, embedding, and logits of further heads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from moodfield import calibration, clips, mel
from moodfield.card import Card, Head
from moodfield.engine import Engine
from moodfield.errors import AudioError, ModelError

Embedding = Float32[np.ndarray, "_channels"]  # of several models one after the other
LogitMap = Float32[np.ndarray, "tags time"]
Blocks = Iterable[Float32[np.ndarray, "_bands _frames"]]
LogitMaps = list[Float32[np.ndarray, "_tags _time"]]  # underscores: models may differ in time steps, heads in tags


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to use: its card, and an engine that runs its network."""

    card: Card
    """card of the model"""
    engine: Engine
    """engine with the network of the model"""

    def scores(self, logits: Float32[np.ndarray, "tags ..."]) -> Float32[np.ndarray, "tags ..."]:
        """Scores of logits: the card's calibration, if any, and the sigmoid."""
        return calibration.scores(self.card.calibration, logits)

    def check_logits(self, head: Card | Head, logits: LogitMap) -> LogitMap:
        """Return logits over time; raise `ModelError` unless they are finite and as many as the head has tags."""
        n_tags = len(head.vocabulary)
        if logits.shape[0] != n_tags or not np.isfinite(logits).all():
            raise ModelError(
                f"the network of {self.card.name!r} gave {logits.shape[0]} logits, expected {n_tags} finite ones; its "
                "weights are damaged: get the model again"
            )
        return logits


class TrackOutput(NamedTuple):
    """Outputs of a network for one track."""

    logits: LogitMap
    """logits over time"""
    embedding: Embedding | None
    """mean of the last feature map over time and frequency; None if the network has no embedding"""
    heads: LogitMaps
    """logits over time of the further heads, in the order of the card"""


class TrackPredictor:
    """Computes the outputs of one model for one track, whose mel comes in blocks."""

    def __init__(self, model: LoadedModel, *, clip_frames: int = clips.CLIP_FRAMES) -> None:
        self.model = model
        self._cutter = clips.Cutter(model.card.lengths, clip_frames=clip_frames)
        self._maps: list[Float32[np.ndarray, "_channels _time"]] = []
        self._frames = 0

    def predict(self, blocks: Blocks) -> TrackOutput:
        """Outputs for a track from all blocks of its mel."""
        for block in blocks:
            self.push(block)
        return self.finish()

    def push(self, block: mel.Mel) -> None:
        """Process the next block of the mel."""
        self._frames += block.shape[1]
        self._run(self._cutter.push(block))

    def finish(self) -> TrackOutput:
        """Outputs for the whole track."""
        self._run(self._cutter.finish())
        return self._output()

    def _output(self) -> TrackOutput:
        """Outputs from the features of all clips."""
        output = self.model.engine.forward_head(np.concatenate(self._maps, axis=1)[None])
        pooled = None if output.embedding is None else clips.pool(output.embedding[0])
        card = self.model.card
        if missing := [head.name for head in card.heads if head.name not in output.heads]:
            raise ModelError(f"the network of {card.name!r} lacks the head {missing[0]!r}: get the model again")
        heads = [self.model.check_logits(head, output.heads[head.name][0]) for head in card.heads]
        return TrackOutput(self.model.check_logits(card, output.logits[0]), pooled, heads)

    @classmethod
    def predict_tracks(
        cls, model: LoadedModel, mels: Sequence[mel.Mel], *, clip_frames: int = clips.CLIP_FRAMES, batch: int = 32
    ) -> list[tuple[TrackOutput, Float32[np.ndarray, "_time"]] | AudioError]:
        """Outputs of one model for several tracks, whose clips of equal length are in one batch.

        Args:
            model: The model.
            mels: The whole mel of each track.
            clip_frames: Frames of a clip for networks that take any length.
            batch: Clips of a batch.

        Returns:
            For each track its output, and the times of the steps; the error of a track that is too short.
        """
        predictors = [cls(model, clip_frames=clip_frames) for _ in mels]
        waiting: dict[int, list[tuple[int, int, clips.Clip]]] = {}
        errors: dict[int, AudioError] = {}
        for track, (predictor, whole) in enumerate(zip(predictors, mels, strict=True)):
            try:
                for number, clip in enumerate(predictor._cut(whole)):
                    waiting.setdefault(clip.mel.shape[1], []).append((track, number, clip))
            except AudioError as error:
                errors[track] = error
        features: dict[tuple[int, int], Float32[np.ndarray, "_channels _time"]] = {}
        for ready in waiting.values():
            for start in range(0, len(ready), batch):
                part = ready[start : start + batch]
                maps = model.engine.forward_features(np.stack([clip.mel for _, _, clip in part]))
                features |= {
                    (track, number): map_[:, clip.keep] for (track, number, clip), map_ in zip(part, maps, strict=True)
                }
        results: list[tuple[TrackOutput, Float32[np.ndarray, "_time"]] | AudioError] = []
        for track, predictor in enumerate(predictors):
            if track in errors:
                results.append(errors[track])
                continue
            predictor._maps = [features[key] for key in sorted(features) if key[0] == track]
            output = predictor._output()
            results.append((output, predictor.times(output.logits.shape[1])))
        return results

    def times(self, steps: int) -> Float32[np.ndarray, "time"]:
        """Centres of the receptive fields of the first time steps, in seconds from the start of the track."""
        config = self.model.card.mel
        centres = clips.centres(steps, self._frames, self.model.card.lengths)
        return (centres * (config.hop_length / config.sample_rate)).astype(np.float32)

    def _run(self, ready: Iterable[clips.Clip]) -> None:
        for clip in ready:
            self._maps.append(self.model.engine.forward_features(clip.mel[None])[0][:, clip.keep])

    def _cut(self, whole: mel.Mel) -> list[clips.Clip]:
        """The clips of a whole mel, whose features are still to be computed."""
        self._frames = whole.shape[1]
        return self._cutter.push(whole) + self._cutter.finish()
