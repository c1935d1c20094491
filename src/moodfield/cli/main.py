"""The command `moodfield` and its subcommands."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from moodfield.cli import (
    application,
    catalogue,
    console,
    data,
    distill,
    evaluate,
    export_onnx,
    learn,
    library,
    library_report,
    models,
    nets,
    paper,
    playlist,
    predict,
    recipes,
    runs,
    serve,
    submission,
    suggest,
    tag,
    train,
    web,
    write_tags,
)

app = typer.Typer(
    cls=application.CommandGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Tag music with moods and themes; train and evaluate such taggers.",
    context_settings={"help_option_names": ["--help", "-h"]},
)  # fmt: skip

COMMANDS: dict[str, Callable[..., None] | dict[str, Callable[..., None]]] = {
    "tag": tag.tag,
    "library": {
        "scan": library.scan, "list": library.list_tracks, "find": library.find_tracks, "show": library.show,
        "similar": library.similar, "stats": library.stats, "report": library_report.report, "export": library.export,
        "correct": library.correct, "check": library.check, "prune": library.prune,
        "import": catalogue.import_catalogue,
    },
    "playlist": playlist.playlist,
    "catalogue": {"tag": catalogue.tag, "decide": catalogue.decide},
    "write-tags": write_tags.write_tags,
    "serve": serve.serve,
    "learn": learn.learn,
    "suggest": suggest.suggest,
    "train": train.train,
    "predict": predict.predict,
    "evaluate": evaluate.evaluate,
    "compare": evaluate.compare,
    "thresholds": evaluate.thresholds,
    "ensemble": evaluate.ensemble,
    "submission": {"make": submission.make, "check": submission.check},
    "data": {"download": data.download, "validate": data.validate, "duplicates": data.duplicates, "stats": data.stats},
    "nets": nets.nets,
    "recipes": recipes.recipes,
    "runs": runs.runs,
    "models": models.models,
    "export-onnx": export_onnx.export_onnx,
    "web": web.web,
    "paper": {"table1": paper.table1, "figure1": paper.figure1, "train": paper.train},
    "distill": {"bridge": distill.bridge, "targets": distill.targets, "train": distill.train},
}  # fmt: skip
"""every command and group of commands, in the order of the help"""
GROUP_HELP = {
    "library": "Keep the tags of your music in a database; search, compare, correct and export them.",
    "catalogue": "Tag millions of tracks on one machine or a Ray cluster, into Parquet.",
    "submission": "Make and check submissions to the MediaEval task.",
    "data": "Download, validate and count datasets.",
    "paper": "Reproduce the paper's results.",
    "distill": "Distill published networks into a small one.",
}


def main() -> None:
    """Run the command `moodfield`."""
    application.run(partial(app, prog_name="moodfield"))  # also for python -m moodfield


@app.callback(invoke_without_command=True)
def root(*, version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Moods and themes of music files."""
    if version:
        import moodfield

        console.result(f"moodfield {moodfield.__version__}")
        raise typer.Exit


for name, command in COMMANDS.items():
    if isinstance(command, dict):
        group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=GROUP_HELP[name])
        for subname, function in command.items():
            application.register(group, subname, function)
        app.add_typer(group, name=name)
    else:
        application.register(app, name, command)
