"""The command, and what it can be asked.

In: a command line. Out: the right command, called.
Knows nothing of: what commands do or say.
"""

from typing import Annotated

import typer

from moodfield.cli import data, desk, hearing, models, networks, paper, task, training

app = typer.Typer(
    cls=desk.Desk, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="moodfield hears what a piece of music feels like.",
)  # fmt: skip
datasets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Datasets: fetched, checked, looked into.")
runs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Training runs: what they came to, how they went.")
submission = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Submissions to the task.")
zoo, recipes, shelf = (
    typer.Typer(cls=desk.Listing, rich_markup_mode=None, help=words)
    for words in (
        "The networks: what they cost, what they see; or a list.",
        "Recipes by name: every number of one, what it means and where it comes from; or a list.",
        "Models: what one says about itself, and whether it is what it was; or a list.",
    )
)


def main() -> None:
    """The command `moodfield`."""
    app()


@app.callback(invoke_without_command=True)
def front(*, version: Annotated[bool, typer.Option("--version", help="say which version this is")] = False) -> None:
    """Moods and themes of music files."""
    if version:
        import moodfield

        typer.echo(f"moodfield {moodfield.__version__}")
        raise typer.Exit


app.command()(hearing.tag)
app.command()(training.train)
app.command()(training.distill)
app.command()(paper.reproduce)
app.add_typer(zoo, name="nets")
app.add_typer(recipes, name="recipes")
recipes.command("list")(training.recipes)
recipes.command("show")(training.show_recipe)
app.add_typer(shelf, name="models")
shelf.command("list")(models.models)
shelf.command("show")(models.show)
shelf.command("verify")(models.verify)
app.add_typer(datasets, name="data")
datasets.command()(data.download)
datasets.command()(data.check)
datasets.command()(data.audit)
datasets.command()(data.stats)
app.add_typer(runs, name="runs")
runs.command("show")(training.show_runs)
zoo.command("list")(networks.networks)
zoo.command("show")(networks.show)
app.command()(task.evaluate)
app.command()(task.compare)
app.command()(task.submit)
app.command()(task.ensemble)
app.add_typer(submission, name="submission")
submission.command("check")(task.check)
