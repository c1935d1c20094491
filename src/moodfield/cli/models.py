"""The command that lists models, shows the card of one, and verifies it."""

import json
from typing import Annotated

import typer

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import ModelError, UsageError


def models(
    name: Annotated[
        str | None, typer.Argument(help="name, folder or run of a model", autocompletion=console.complete_model)
    ] = None,
    *,
    verify: Annotated[bool, typer.Option("--verify", help="verify checksums and logits instead")] = False,
    as_json: console.AsJson = False,
) -> None:
    """List the bundled models, or show the card of one.

    For example:
        moodfield models
        moodfield models default
        moodfield models runs/first --verify
    """
    if verify and not name:
        raise UsageError("--verify needs the name, folder or run of a model")
    if name and verify:
        _verify(name, as_json=as_json)
    elif name:
        _show(name, as_json=as_json)
    else:
        _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    from moodfield import tagger
    from moodfield.card import Card

    cards = {name: Card.read(folder) for name, folder in tagger.pretrained_models().items()}
    if as_json:
        plain = {
            name: {"tags": len(model.vocabulary), "licence": model.licence, "summary": model.summary}
            for name, model in cards.items()
        }
        console.result_json(plain)
        return
    table = console.table("model", "summary", words=2)
    for name, model in cards.items():
        table.add_row(name, console.escape(model.summary))
    terminal = console.terminal()
    terminal.print(table, soft_wrap=False)
    terminal.print("\n[dim]the card of one: moodfield models NAME[/dim]")


def _show(name: str, *, as_json: bool) -> None:
    from moodfield import tagger
    from moodfield.card import README, Card, Provenance

    folder = tagger.model_folder(name)
    card, provenance = Card.read(folder), Provenance.read(folder)
    if as_json:
        files = {"card": card, "provenance": provenance}
        console.result_json({name: json.loads(file.to_json()) for name, file in files.items()}, indent=2)
        return
    from rich.markdown import Markdown

    from moodfield.training import readme

    lines = "\n".join(map(errors.printable, readme.page(card, provenance).split("\n")))
    terminal = console.terminal()
    terminal.print(Markdown(lines), soft_wrap=False)
    terminal.print(f"\n[dim]its evaluation, if there is one: {console.escape(str(folder / README))}[/dim]")


def _verify(name: str, *, as_json: bool) -> None:
    from moodfield import verify

    verification = verify.check(name)
    model, difference = verification.card, verification.max_difference
    if as_json:
        plain = {"name": model.name, "sha256": dict(model.sha256), "max_difference": difference}
        console.result_json(plain | {"passed": verification.passed})
    else:
        terminal = console.terminal()
        for file, digest in model.sha256.items():
            terminal.print(f"{console.escape(file):<18} SHA-256 {digest[:16]}… as in the card")
        line = f"{len(model.reference_logits)} logits, which differ from those of the card by at most {difference:.1e}"
        terminal.print(f"{'synthetic signal':<18} {line} (tolerance {verify.TOLERANCE:g})")
    if not verification.passed:
        raise ModelError(
            f"the logits of {name} differ by {difference:.2g} from the recorded ones (tolerance {verify.TOLERANCE:g}): "
            "get the model again, or check the versions of onnxruntime, numpy and soxr"
        )
