"""The command that writes a page that tags music in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console


def web(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a new folder, or one of this command", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="name, folder or run of a model", autocompletion=console.complete_model)
    ] = "default",
) -> None:
    """Write a folder with a page that tags music in the browser, for any web server or none.

    For example:
        moodfield web -o moods
        moodfield web --model runs/first -o moods
    """
    from moodfield.browser import folder

    card = folder.write(model, output)
    console.message(f"{output / folder.PAGE} tags music with {card.name}; open it in a browser, or publish the folder")
