"""The command `moodfield` and its subcommands.

In: a command line. Out: the right function, called.
Knows nothing of: what commands do.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from moodfield.cli import console, data, evaluate, models, nets, paper, tag, train

app = typer.Typer(
    cls=console.Desk, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Tag music with moods and themes; train and evaluate such taggers.",
)  # fmt: skip
datasets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Download, check and count datasets.")
runs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show training runs.")
submission = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check submissions to the task.")
zoo, recipes, shelf = (
    typer.Typer(cls=console.Listing, rich_markup_mode=None, help=words)
    for words in (
        "List networks, or show the size and receptive field of one.",
        "List recipes, or show every setting of one.",
        "List models, show the card of one, or verify it.",
    )
)


def main() -> None:
    """The command `moodfield`."""
    console.run(app)


@app.callback(invoke_without_command=True)
def front(*, version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Moods and themes of music files."""
    if version:
        import moodfield

        typer.echo(f"moodfield {moodfield.__version__}")
        raise typer.Exit


GROUPS: dict[str, tuple[typer.Typer, dict[str, Callable[..., None]]]] = {
    "": (
        app,
        {
            "tag": tag.tag, "train": train.train, "distill": train.distill, "reproduce": paper.reproduce,
            "evaluate": evaluate.evaluate, "compare": evaluate.compare, "submit": evaluate.submit,
            "ensemble": evaluate.ensemble,
        },
    ),
    "nets": (zoo, {"list": nets.networks, "show": nets.show}),
    "recipes": (recipes, {"list": train.recipes, "show": train.show_recipe}),
    "models": (shelf, {"list": models.models, "show": models.show, "verify": models.verify}),
    "data": (
        datasets, {"download": data.download, "check": data.check, "audit": data.audit, "stats": data.stats}
    ),
    "runs": (runs, {"show": train.show_runs}),
    "submission": (submission, {"check": evaluate.check}),
}  # fmt: skip
"""every command by its group"""

for group_name, (group, commands) in GROUPS.items():
    for command_name, function in commands.items():
        console.register(group, command_name, function)
    if group_name:
        app.add_typer(group, name=group_name)
