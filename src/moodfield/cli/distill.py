"""The command that distills a published network into a small one."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console, progress, tables
from moodfield.errors import UsageError

calibration = partial(typer.Option, rich_help_panel="Options for calibration")
card = partial(typer.Option, rich_help_panel="Options for the model card")
Metrics = Annotated[Path | None, typer.Option(help="also train on held-out tracks, and report the metrics of this run")]


# More than ten options: those of the panels only add to the card of the finished model.
def distill(
    manifest: Annotated[Path, typer.Argument(help="TSV of the music, and of which packages are held out")],
    *,
    teacher: Annotated[Path, typer.Option(help="checkpoint of the teacher: the organisers' best_model.pth")],
    audio: Annotated[Path, typer.Option(help="folder of the music")],
    output: console.RunFolder,
    speed: Annotated[list[float] | None, typer.Option(help="also train on the music at this speed")] = None,
    reuse_metrics_from: Metrics = None,
    settings: console.Settings = None,
    cache_dir: console.CacheDir = console.CACHE_DIR,
    jobs: console.Jobs = 0,
    predictions: Annotated[Path | None, calibration(help="the teacher's predictions of the test tracks, .npy")] = None,
    splits: Annotated[Path | None, calibration(help="folder of MTG-Jamendo's official TSVs")] = None,
    card_text: Annotated[Path | None, card(help="name, summary, licence, limits, origin: TOML")] = None,
    appendix: Annotated[list[Path] | None, card(exists=True, dir_okay=False, help="Markdown to end the README")] = None,
) -> None:
    """Distill a published network into a small one."""
    from moodfield import parallel
    from moodfield.distillation import distill as distillation
    from moodfield.distillation import manifest as manifests
    from moodfield.distillation import model_card
    from moodfield.distillation.data import STUDENT, Distillation
    from moodfield.training import loop, pipeline

    if (predictions is None) != (splits is None):
        raise UsageError("scores are calibrated with both --predictions and --splits; give both or none")
    config = Distillation(
        recipe=STUDENT.change(*(settings or ())),
        music=manifests.read_manifest(manifest),
        checkpoint=teacher,
        paths=pipeline.RunPaths(audio, cache_dir, output, jobs or parallel.cpu_count()),
        speeds=tuple(speed or ()),
        reuse_metrics_from=reuse_metrics_from,
        calibration=model_card.calibrate_teacher(predictions, splits) if predictions and splits else None,
        text=model_card.read_card_text(card_text) if card_text else model_card.CardText(),
        appendix="\n\n".join(path.read_text(encoding="utf-8").strip() for path in appendix or ()),
    )
    loop.keep_freed_memory(config.recipe)
    with progress.TrainingProgress(config.n_steps, config.recipe.schedule.epochs) as bars:
        distillation.distill(config, progress=bars.track, on_epoch=bars.epoch)
    tables.print_metrics(output)
