"""The commands about models: list, show, verify.

In: names, folders, runs. Out: tables, cards, and whether a model gives the logits recorded at export.
Knows nothing of: how a model is run.
"""

import json
from typing import Annotated

import typer

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import ModelError

Name = Annotated[str, typer.Argument(help="a model's name, folder or run")]


def models(*, as_json: console.AsJson = False) -> None:
    """List the models that come with the package."""
    from moodfield import tagger
    from moodfield.card import Card

    known = {name: Card.read(folder) for name, folder in tagger.pretrained_models().items()}
    if as_json:
        for name, each in known.items():
            plain = {"name": name, "tags": len(each.vocabulary), "licence": each.licence, "summary": each.summary}
            console.result_json(plain)
        return
    table = console.table("model", "what it is", words=2)
    for name, each in known.items():
        table.add_row(name, console.plain(each.summary))
    terminal = console.terminal(stderr=False)
    terminal.print(table, soft_wrap=False)
    terminal.print("\n[dim]everything about one: moodfield models show NAME[/dim]")


def show(
    name: Name, *, as_json: Annotated[bool, typer.Option("--json", help="card and provenance as JSON")] = False
) -> None:
    """Show the card of a model."""
    from moodfield import tagger
    from moodfield.card import README, Card, Provenance

    folder = tagger.model_folder(name)
    known = Card.read(folder)
    if as_json:
        files = {"card": known, "provenance": Provenance.read(folder)}
        document = {name: json.loads(file.to_json()) for name, file in files.items()}
        console.result_document(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    try:
        page = (folder / README).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / README} cannot be read ({error}); try --json, or get the model again") from error
    from rich.markdown import Markdown

    lines = "\n".join(map(errors.printable, page.split("\n")))
    console.terminal(stderr=False).print(Markdown(lines), soft_wrap=False)


def verify(name: Name, *, as_json: console.AsJson = False) -> None:
    """Verify a model's checksums, and compare its output on a synthetic signal with the recorded one."""
    from moodfield import verify

    found = verify.check(name)
    if as_json:
        plain = {
            "name": found.card.name,
            "sha256": dict(found.card.sha256),
            "apart": found.max_difference,
            "holds": found.passed,
        }
        console.result_json(plain)
    else:
        terminal = console.terminal(stderr=False)
        for file, digest in found.card.sha256.items():
            terminal.print(f"{console.plain(file):<18} SHA-256 {digest[:16]}…  as its card says", highlight=False)
        n_logits = len(found.card.reference_logits)
        line = f"{n_logits} logits, which differ by {found.max_difference:.1e} from those of the card"
        terminal.print(f"{'synthetic signal':<18} {line}, and may by {verify.TOLERANCE:g}", highlight=False)
    if not found.passed:
        raise ModelError(
            f"the logits of {name} differ by {found.max_difference:.2g} from the recorded ones (tolerance "
            f"{verify.TOLERANCE:g}): get the model again, or look at the versions of onnxruntime, numpy and soxr"
        )
