"""The command that trains."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, progress, recipes, tables
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from moodfield.training.log import Epoch

FROM_SCRATCH, FINE_TUNING = "fa_resnet", "fine_tuning"
"""recipes without and with initial weights, if none is named"""
machine = partial(typer.Option, rich_help_panel="Options for the machine")


# More than ten options: those of the last panel change where and how the work is done, not its result.
def train(
    tracks: console.Tracks,
    *,
    validation: Annotated[Path, typer.Option(help="validation tracks, in the same form")],
    audio: console.Audio,
    output: console.RunFolder,
    recipe: console.Recipe = None,
    settings: console.Settings = None,
    tags: console.Tags = None,
    init: Annotated[
        str | None,
        typer.Option(help="start from this model: name, folder or run", autocompletion=console.complete_model),
    ] = None,
    soft_targets: Annotated[Path | None, typer.Option(help="soft targets for training, tracks × tags, .npy")] = None,
    name: Annotated[str, typer.Option(help="name of the model")] = "mine",
    cache_dir: Annotated[Path, machine(help="folder where mels are kept between runs")] = console.CACHE_DIR,
    on: Annotated[Backend, machine(help="compute mels in local processes, or on a Ray cluster")] = Backend.LOCAL,
    jobs: Annotated[int, machine(min=0, help="processes that compute mels; 0: one a core")] = 0,
    tensorboard: Annotated[bool, machine("--tensorboard", help="write event files for TensorBoard")] = False,
) -> None:
    r"""Train a network; the folder of the run becomes a model.

    For example:
        moodfield train train.tsv --validation validation.tsv --audio music/ -o runs/first
        moodfield train train.tsv --validation validation.tsv --audio music/ -o runs/small \
            --recipe cp_resnet --set net.width=32 --set schedule.constant=20
        moodfield train train.tsv --validation validation.tsv --audio music/ -o runs/tuned --init default
    """
    from moodfield import parallel, tagger
    from moodfield.datasets import mtg_jamendo
    from moodfield.training import log, loop, pipeline

    console.check_audio(audio)
    vocabulary = console.read_tags(tags)
    initial_model = tagger.model_folder(init) if init else None
    config = recipes.read(recipe or (FINE_TUNING if init else FROM_SCRATCH), settings, initial_model=initial_model)
    if recipe and initial_model and (replaced := recipes.replaced(recipe, config)):
        console.message(f"with --init, {' and '.join(replaced)} of {recipe} are replaced by those of {init}")
    train_split = mtg_jamendo.read(tracks, vocabulary=vocabulary)
    validation_split = mtg_jamendo.read(validation, vocabulary=vocabulary or train_split.vocabulary)
    targets = pipeline.read_soft_targets(soft_targets) if soft_targets else None
    paths = pipeline.RunPaths(audio, cache_dir, output, jobs or parallel.cpu_count(), on)
    loop.keep_freed_memory(config)
    count = len(train_split.tracks) + len(validation_split.tracks)
    with progress.TrainingProgress(count, config.schedule.epochs) as bars, ExitStack() as stack:
        write_events = stack.enter_context(log.tensorboard(output)) if tensorboard else lambda _: None

        def report(epoch: "Epoch") -> None:
            bars.epoch(epoch)
            write_events(epoch)

        splits = train_split, validation_split
        pipeline.train(
            config, *splits, paths, name=name, soft_targets=targets, initial_model=initial_model,
            progress=bars.track, on_epoch=report,
        )  # fmt: skip
    tables.print_metrics(output)
