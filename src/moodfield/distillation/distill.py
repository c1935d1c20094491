"""Knowledge distillation: a small network is trained on a teacher's logits and exported."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moodfield import calibration, files, tagger, tags
from moodfield.card import Card, Example, Provenance
from moodfield.distillation import data, lossy_codecs, manifest, model_card, speed_perturbation
from moodfield.distillation.data import Distillation, DistillationData
from moodfield.distillation.model_card import MusicLogits, TeacherCalibration
from moodfield.errors import ConfigError, RunError
from moodfield.nets import regularized
from moodfield.nets.configs import RegularizedConfig
from moodfield.training import (
    checkpoints,
    checks,
    distributed,
    export,
    fine_tuning,
    loop,
    mel_cache,
    model_folder,
    run_folder,
)
from moodfield.training.log import EpochCallback
from moodfield.training.pipeline import ProgressCallback
from moodfield.training.recipe import Recipe
from moodfield.training.run_folder import TRUTH, VOCABULARY

DRAFT = "draft"
"""folder below a run in which the model folder is written before it replaces the earlier one"""
TRAINED_ON_HELD_OUT = "; metrics and examples are those of a network of the same recipe that was not trained on them"
"""ends the description of held-out tracks that the student was also trained on"""


def distill(
    config: Distillation, *, progress: ProgressCallback = lambda *_: None, on_epoch: EpochCallback = lambda _: None
) -> Card:
    """Train a student on a teacher's logits, and export it as a model folder of the run.

    The student is the last average of its weights or, if the recipe takes none, the network of the best epoch.
    Decisions need no truth: they follow from what is usual for the student among the training tracks.
    A repeated command does not train again; the earlier model folder stays until the new one replaces it.

    Args:
        config: The inputs.
        progress: Called for every track, as by `data.prepare`.
        on_epoch: Called after every epoch.

    Raises:
        ConfigError: A speed or the recipe is invalid, the initial model is another network, or several processes were
            started.
        ModelError: The initial model cannot be read.
        RunError: The run is of other inputs, or `reuse_metrics_from` is.
        OutputError: A file would be in the way of the model folder.
    """
    _check(config)
    run = config.paths.run_dir
    reused = _reused_provenance(config, config.reuse_metrics_from) if config.reuse_metrics_from else None
    with run_folder.lock(run, cache=config.paths.cache_dir):
        identity = {VOCABULARY: list(config.music.train.vocabulary), TRUTH: [config.sources, reused is not None]}
        run_folder.check(run, config.recipe, identity)
        draft, best = run / DRAFT, run / tagger.BEST
        files.restore_directory(best)
        for folder in (draft, best):
            model_folder.check_folder(folder)
        prepared = data.prepare(config, progress=progress)
        run_folder.claim(run, config.recipe, identity, cache=config.paths.cache_dir)
        _train(config, prepared, draft, on_epoch)
        student, teacher, titles = _predict(config, prepared, draft)
        card = Card.read(draft).with_usual(student.usual)
        evaluation = (
            (reused.metrics, reused.examples) if reused else model_card.evaluate_student(student, teacher, titles)
        )
        provenance = _provenance(config, prepared, *evaluation)
        model_folder.write_card(card, provenance, draft, appendix=config.appendix)
        model_folder.check_folder(best)
        return Card.read(files.replace_directory(draft, best))


def _check(config: Distillation) -> None:
    """Raise before any work if the inputs are invalid."""
    if distributed.is_distributed():
        raise ConfigError("started as several processes; distillation is one process, which uses all cores")
    if config.recipe.loss.auxiliary_weight and not isinstance(config.recipe.net, RegularizedConfig):
        raise ConfigError(f"{config.recipe.net.family} has no auxiliary outputs; set loss.auxiliary_weight=0")
    initial = fine_tuning.check(config.recipe, config.initial_model)
    if initial and initial.vocabulary != tags.MOODS_AND_THEMES:
        raise ConfigError(f"the initial model {config.initial_model} has another vocabulary than the student")
    if config.initial_model:
        Provenance.read(config.initial_model)
    for speed in config.speeds:
        speed_perturbation.check_speed(speed)
    if config.degradation:
        lossy_codecs.check_installed()
    clips = len(config.train_split.tracks)
    checks.check_recipe(config.recipe, n_tags=len(tags.MOODS_AND_THEMES), clips=clips, processes=1)


def _train(config: Distillation, prepared: DistillationData, folder: Path, on_epoch: EpochCallback) -> None:
    """Train a student and export its last snapshot, not yet with its thresholds and provenance."""
    text, vocabulary = config.text, config.music.train.vocabulary
    net = loop.fit(
        config.recipe, prepared.train_data, prepared.validation_data, prepared.statistics,
        vocabulary, config.paths.run_dir, initial_weights=config.initial_weights, on_epoch=on_epoch,
    )  # fmt: skip
    *_, last = checkpoints.snapshot_paths(config.recipe, config.paths.run_dir).values()
    checkpoints.load_weights(net, last)
    net = regularized.without_auxiliary(net, len(vocabulary))
    card = export.describe(config.recipe, net, vocabulary, name=text.name, summary=text.summary, licence=text.licence)
    export.export(net, config.calibration.apply_to(card) if config.calibration else card, folder)


def _predict(
    config: Distillation, prepared: DistillationData, folder: Path
) -> tuple[MusicLogits, MusicLogits, list[str]]:
    """The student's and the teacher's logits for all music, calibrated, and the titles of held-out tracks."""
    dataset, tracks = prepared.per_track(config.music.tracks)
    heldout = np.array([track in config.music.heldout.tracks for track in tracks])
    kinds = tuple(config.music.kinds.get(track.id, manifest.UNKNOWN) for track in tracks)
    to_scores = config.calibration.calibration.scores if config.calibration else calibration.sigmoid
    student = tagger.load(folder)
    scores = np.stack([student.predict([mel_cache.blocks(mel)]) for mel in dataset.mels])
    paths = (track.path for track in itertools.compress(tracks, heldout))
    titles = [f"{Path(path).stem.replace('_', ' ')} ({path.partition('/')[0]})" for path in paths]
    by_student, by_teacher = (
        MusicLogits(calibration.logit(values), heldout, kinds)
        for values in (scores, to_scores(dataset.targets.per_track()))
    )
    return by_student, by_teacher, titles


def _provenance(
    config: Distillation, prepared: DistillationData, metrics: Mapping[str, float], examples: tuple[Example, ...]
) -> Provenance:
    """Origin, training data, metrics, limits and examples of a student."""
    teacher, music, reused = config.calibration, config.music, config.reuse_metrics_from
    cost = model_card.training_cost([config.paths.run_dir, *([reused] if reused else [])])
    if config.initial_model and (earlier := Provenance.read(config.initial_model).origin.get("cost")):
        cost = f"{cost}; of the initial weights: {earlier}"
    return Provenance(
        origin={
            **config.text.origin,
            **config.sources,
            "seed": str(config.recipe.seed),
            "cost": cost,
            **({"calibration": teacher.origin} if teacher else {}),
            "thresholds": "one standard deviation above the mean of the student's logits for the training tracks, in "
            "which all kinds of music count alike, and the mean of each kind",
        },
        training_data={
            "held-out tracks": music.summary(prepared.validation_tracks) + (TRAINED_ON_HELD_OUT if reused else ""),
            "training tracks": music.summary(prepared.train_tracks),
        },
        metrics={**metrics, **(teacher.metrics if teacher else {})},
        limits=config.text.limits,
        examples=examples,
    )


def _reused_provenance(config: Distillation, run: Path) -> Provenance:
    """The provenance of an earlier run; raises `RunError` if its student differs by more than its training tracks."""
    if Recipe.read(run / run_folder.RECIPE) != config.recipe:
        raise RunError(f"{run} has another recipe; its metrics are not those of this student")
    card, provenance = Card.read(run / tagger.BEST), Provenance.read(run / tagger.BEST)
    for name, value in config.sources.items():
        if (other := provenance.origin.get(name)) != value:
            raise RunError(f"{run} has {name} {other}, expected {value}; its metrics are not those of this student")
    if provenance.training_data.get("held-out tracks", "").endswith(TRAINED_ON_HELD_OUT):
        raise RunError(f"{run} was itself trained on the held-out tracks; give the run whose metrics it has")
    if not _is_calibration_of(card, config.calibration):
        raise RunError(f"{run} has another calibration; give --predictions to both runs or to none")
    return provenance


def _is_calibration_of(card: Card, teacher: TeacherCalibration | None) -> bool:
    """Whether a card has this calibration; fits on two machines differ in the last digits."""
    if not card.calibration or not teacher:
        return card.calibration is None and teacher is None
    theirs = (*card.calibration.slopes, *card.calibration.offsets, *(card.priors or ()))
    ours = (*teacher.calibration.slopes, *teacher.calibration.offsets, *teacher.priors)
    return len(theirs) == len(ours) and np.allclose(theirs, ours, rtol=1e-6, atol=1e-6)
