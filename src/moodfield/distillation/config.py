"""The inputs of a distillation, and the recipe of the bundled model."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from moodfield.datasets.mtg_jamendo import Split
from moodfield.distillation import teacher
from moodfield.distillation.manifest import Music
from moodfield.distillation.model_card import CardText, TeacherCalibration
from moodfield.mel import MelConfig
from moodfield.nets import CPResNetConfig
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, LossConfig, ScheduleConfig
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe

STUDENT = Recipe(
    net=CPResNetConfig(width=64, rho_freq=9, rho_time=9, frequency_aware=True),
    mel=MelConfig(sample_rate=12_000, n_fft=1_024, hop_length=768, n_mels=128, kind="plain"),
    batch=BatchConfig(clip_seconds=teacher.WINDOW_SECONDS),
    augment=AugmentConfig(roll_frames=0, mixup_alpha=0.0),
    loss=LossConfig(kind="logits"),
    averaging=AveragingConfig(start=7, every=1, snapshots=1),
    schedule=ScheduleConfig(warm_up=0, constant=2, decay=4, final=2, peak=1e-3, floor=3e-5),
    precision="bf16-mixed",
)
"""the recipe of the bundled model, which is the last average of its weights: no epoch is chosen by held-out music"""


@dataclass(frozen=True)
class Distillation:
    """The inputs of a distillation: teacher, music, student, and what its card states."""

    recipe: Recipe
    """recipe of the student"""
    music: Music
    """training and held-out tracks"""
    checkpoint: str | Path
    """published checkpoint of the teacher"""
    paths: RunPaths
    """folders of audio, cache and run"""
    speeds: tuple[float, ...] = ()
    """further speeds of the training music, 0.5 … 2; each gives more music with targets of its own"""
    reuse_metrics_from: Path | None = None
    """a finished run with the same recipe, teacher and music: the student is then also trained on the held-out tracks,
    and its metrics and examples are those of that run"""
    calibration: TeacherCalibration | None = None
    """calibration of the teacher, which its student takes over"""
    text: CardText = field(default_factory=CardText)
    """what the card states and nobody can measure"""
    appendix: str = ""
    """Markdown that the README ends with"""

    @property
    def train_split(self) -> Split:
        """The training tracks: with `reuse_metrics_from` also the held-out ones."""
        return replace(self.music.train, tracks=self.music.tracks) if self.reuse_metrics_from else self.music.train

    @property
    def n_steps(self) -> int:
        """Number of calls of `progress`: teacher and student, every track, all speeds."""
        return 2 * (len(self.train_split.tracks) * (1 + len(set(self.speeds))) + len(self.music.heldout.tracks))

    @cached_property
    def sources(self) -> dict[str, str]:
        """What determines the training data, in words; students of equal recipes and sources are the same."""
        return {
            "checkpoint": f"SHA-256 {teacher.checkpoint_sha256(self.checkpoint)}",
            "music": f"a manifest, SHA-256 {self.music.sha256}",
            "speeds": ", ".join(f"{speed:g}" for speed in sorted({1.0, *self.speeds})),
        }

    @property
    def digest(self) -> str:
        """A digest of the training data, by which a run is recognised."""
        content = json.dumps([self.sources, self.reuse_metrics_from is not None], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
