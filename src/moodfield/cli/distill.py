"""The commands that distill published networks into a small one."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, progress, tables
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from moodfield.distillation.targets import TargetSource

source = partial(typer.Option, rich_help_panel="Options for the targets")
calibration = partial(typer.Option, rich_help_panel="Options for calibration")
card = partial(typer.Option, rich_help_panel="Options for the model card")
Manifest = Annotated[Path, typer.Argument(help="TSV of the music, and of which packages are held out")]
Audio = Annotated[Path, typer.Option(help="folder of the music")]
Checkpoints = Annotated[Path, typer.Option(help="folder with the checkpoints of all teachers, see docs/teachers.md")]
METRICS = "PR-AUC", "ROC-AUC"
"""macro metrics that `bridge` prints"""
Metrics = Annotated[Path | None, typer.Option(help="also train on held-out tracks, and report the metrics of this run")]


def bridge(
    splits: Annotated[Path, typer.Argument(help="folder of MTG-Jamendo's official TSVs")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write, JSON")],
    predictions: Annotated[Path | None, typer.Option(help="predictions of the test tracks to add it to, .npy")] = None,
) -> None:
    """Fit the bridge from genres and instruments to moods, for teachers without moods.

    For example:
        moodfield distill bridge mtg-jamendo/splits -o bridge.json
    """
    from moodfield import files
    from moodfield.distillation.teachers import bridge as bridges
    from moodfield.evaluation import bootstrap, submissions

    files.check_output(output, kind=[b"{"], inputs=[predictions] if predictions else [])
    scores = submissions.read_array(predictions) if predictions else None
    fit = bridges.fit(splits)
    fit.bridge.save(output)
    console.message(
        f"{output}: strength {fit.strength:g}; validation tracks: log loss {fit.log_loss:.4f}, PR-AUC {fit.pr_auc:.4f}"
    )
    if scores is not None:
        columns = (column for metric in METRICS for column in (metric, "95 %"))
        table = console.table("test tracks, from true tags", *columns, words=1)
        for name, resampled in bridges.evaluate(fit.bridge, splits, scores).items():
            intervals = bootstrap.intervals(resampled)
            cells = []
            for metric in METRICS:
                cells += [console.number(resampled.report.macro[metric])]
                cells += [tables.format_interval(intervals[f"{metric}-macro"])]
            table.add_row(name, *cells)
        console.terminal().print(table)


def targets(
    manifest: Manifest,
    *,
    checkpoints: Checkpoints,
    bridge: Annotated[Path, typer.Option(help="file of `moodfield distill bridge`")],
    predictions: Annotated[Path, typer.Option(help="the baseline's predictions of MTG-Jamendo's test tracks, .npy")],
    audio: Audio,
    output: Annotated[Path, typer.Option("--output", "-o", help="file of the ensemble to write, JSON")],
    cache_dir: console.CacheDir = console.CACHE_DIR,
    jobs: console.Jobs = 0,
) -> None:
    """Compute the outputs of all teachers for the music, and fit their ensemble; it resumes.

    For example:
        moodfield distill targets manifest.tsv --checkpoints data --bridge bridge.json --predictions vggish.npy
            --audio music -o ensemble.json
    """
    from moodfield import files, parallel
    from moodfield.distillation import manifest as manifests
    from moodfield.distillation import targets as computation
    from moodfield.distillation.teachers import bridge as bridges
    from moodfield.distillation.teachers import ensemble as ensembles
    from moodfield.distillation.teachers import published
    from moodfield.training.pipeline import RunPaths

    files.check_output(output, kind=[b"{"], inputs=[manifest, bridge, predictions])
    music, fitted, teachers = manifests.read_manifest(manifest), bridges.load(bridge), published.teachers(checkpoints)
    paths = RunPaths(audio, cache_dir, output.parent, jobs or parallel.cpu_count())
    computation.read_target(predictions)  # before hours of work
    ensembles.mood_maps(teachers, fitted)
    with progress.TrackProgress("outputs", len(music.tracks) * len(teachers)) as bar:
        computed = computation.compute_all(teachers, music.tracks, paths, bar.track)
    training = set(music.train.tracks)
    readable = [track for track in computed.tracks if track in training]
    computation.fit_ensemble(teachers, fitted, music, readable, predictions, paths).save(output)
    console.message(
        f"{output}: {len(teachers)} teachers, {len(computed.tracks)} of {len(music.tracks)} tracks, "
        f"{computed.hours:.1f} h; {computed.seconds:.0f} s in this run"
    )


# More than ten options: those of the panels only add to the card of the finished model.
def train(
    manifest: Manifest,
    *,
    teacher: Annotated[Path | None, source(help="checkpoint of the only teacher: best_model.pth")] = None,
    ensemble: Annotated[Path | None, source(help="file of `moodfield distill targets`, for several")] = None,
    checkpoints: Annotated[Path | None, source(help="folder with the checkpoints of the ensemble")] = None,
    audio: Audio,
    output: console.RunFolder,
    speed: Annotated[list[float] | None, typer.Option(help="also train on the music at this speed")] = None,
    degrade: Annotated[bool, typer.Option("--degrade", help="also train on degraded copies of the music")] = False,
    init: Annotated[str | None, typer.Option(help="start from the weights of this model, of the same network")] = None,
    reuse_metrics_from: Metrics = None,
    settings: console.Settings = None,
    cache_dir: console.CacheDir = console.CACHE_DIR,
    jobs: console.Jobs = 0,
    predictions: Annotated[Path | None, calibration(help="the teacher's predictions of the test tracks, .npy")] = None,
    splits: Annotated[Path | None, calibration(help="folder of MTG-Jamendo's official TSVs")] = None,
    card_text: Annotated[Path | None, card(help="name, summary, licence, limits, origin: TOML")] = None,
    appendix: Annotated[list[Path] | None, card(exists=True, dir_okay=False, help="Markdown to end the README")] = None,
) -> None:
    """Distill a published network, or an ensemble of them, into a small one.

    For example:
        moodfield distill train manifest.tsv --teacher best_model.pth --audio music -o runs/mine
        moodfield distill train manifest.tsv --ensemble ensemble.json --checkpoints data --audio music -o runs/mine
    """
    from moodfield import parallel, tagger
    from moodfield.distillation import distill as distillation
    from moodfield.distillation import manifest as manifests
    from moodfield.distillation import model_card
    from moodfield.distillation.data import STUDENT, Distillation
    from moodfield.distillation.degradation import Degradation
    from moodfield.training import loop, pipeline

    if (predictions is None) != (splits is None):
        raise UsageError("scores are calibrated with both --predictions and --splits; give both or none")
    config = Distillation(
        recipe=STUDENT.change(*(settings or ())),
        music=manifests.read_manifest(manifest),
        targets=_target_source(teacher, ensemble, checkpoints),
        paths=pipeline.RunPaths(audio, cache_dir, output, jobs or parallel.cpu_count()),
        speeds=tuple(speed or ()),
        degradation=Degradation() if degrade else None,
        initial_model=tagger.model_folder(init) if init else None,
        reuse_metrics_from=reuse_metrics_from,
        calibration=model_card.calibrate_teacher(predictions, splits) if predictions and splits else None,
        text=model_card.read_card_text(card_text) if card_text else model_card.CardText(),
        appendix="\n\n".join(path.read_text(encoding="utf-8").strip() for path in appendix or ()),
    )
    loop.keep_freed_memory(config.recipe)
    with progress.TrainingProgress(config.n_steps, config.recipe.schedule.epochs) as bars:
        distillation.distill(config, progress=bars.track, on_epoch=bars.epoch)
    tables.print_metrics(output)


def _target_source(teacher: Path | None, ensemble: Path | None, checkpoints: Path | None) -> "TargetSource":
    """The one teacher, or the ensemble, that options name."""
    from moodfield.distillation.targets import TargetSource
    from moodfield.distillation.teachers import ensemble as ensembles
    from moodfield.distillation.teachers import published

    if teacher and not ensemble and not checkpoints:
        return TargetSource((published.teacher(published.VGGISH, teacher),))
    if ensemble and checkpoints and not teacher:
        return TargetSource(published.teachers(checkpoints), ensembles.load(ensemble))
    raise UsageError("give --teacher, or both --ensemble and --checkpoints")
