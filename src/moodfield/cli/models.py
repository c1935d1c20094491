"""The commands about models: listed, shown, verified.

In: names, folders, runs. Out: tables and words, and whether a model is what it was.
Knows nothing of: how a model is asked.
"""

import json
from typing import Annotated

import typer

from moodfield.cli import desk
from moodfield.errors import BadModel

Name = Annotated[str, typer.Argument(help="a model's name, folder or run")]


def models(*, as_json: desk.AsJson = False) -> None:
    """List the models that come with the package."""
    from moodfield import card, tagger

    known = {name: card.read(folder) for name, folder in tagger.models().items()}
    if as_json:
        for name, each in known.items():
            plain = {"name": name, "tags": len(each.vocabulary), "licence": each.licence, "summary": each.summary}
            typer.echo(json.dumps(plain))
        return
    table = desk.table("model", "what it is", words=2)
    for name, each in known.items():
        table.add_row(name, desk.plain(each.summary))
    console = desk.console(stderr=False)
    console.print(table, soft_wrap=False)
    console.print("\n[dim]everything about one: moodfield models show NAME[/dim]")


def show(
    name: Name, *, as_json: Annotated[bool, typer.Option("--json", help="the card as JSON instead of words")] = False
) -> None:
    """Show what a model says about itself: its card."""
    from moodfield import card, tagger

    folder = tagger.folder(name)
    known = card.read(folder)
    if as_json:
        typer.echo(card.dumps(known), nl=False)
        return
    try:
        text = (folder / card.README).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadModel(
            f"{folder / card.README} cannot be read ({error}); try --json, or get the model again"
        ) from error
    from rich.markdown import Markdown

    desk.console(stderr=False).print(Markdown(text), soft_wrap=False)


def verify(name: Name, *, as_json: desk.AsJson = False) -> None:
    """See that a model is what it was: its files by their checksums, its network by what it says of a made-up piece."""
    from moodfield import proof

    found = proof.check(name)
    if as_json:
        plain = {"name": found.card.name, "sha256": dict(found.card.sha256), "apart": found.apart, "holds": found.holds}
        typer.echo(json.dumps(plain))
    else:
        console = desk.console(stderr=False)
        for file, digest in found.card.sha256.items():
            console.print(f"{desk.plain(file):<18} SHA-256 {digest[:16]}…  as its card says", highlight=False)
        line = f"{len(found.card.proof)} logits, {found.apart:.1e} at most from those its card remembers"
        console.print(f"{'a made-up piece':<18} {line}; up to {proof.NEAR:g} may be", highlight=False)
    if not found.holds:
        raise BadModel(
            f"{name} says {found.apart:.2g} else than when it was made; its network or this machine's libraries are "
            "not what they should be: get the model again, or look at the versions of onnxruntime, numpy and soxr"
        )
