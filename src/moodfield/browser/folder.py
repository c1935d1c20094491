"""Write a static folder with a page that tags music in the browser, without a server."""

import base64
import gzip
import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path

from moodfield import files, tagger
from moodfield.card import README, Card
from moodfield.errors import OutputError
from moodfield.onnx_export import export

PAGE = "index.html"
STATIC = ("glue.js", "licences.txt", "page.css", "page.js", "wasm.js", "worker.js", PAGE)
"""files that are the same for every model"""
MODEL, METADATA = "model.js", "metadata.js"
"""scripts with the model and its metadata"""
CARD = "model.md"
"""the card of the model for people, which has its licence"""
NAMES = frozenset((*STATIC, MODEL, METADATA, CARD))
OF_HOSTS = frozenset({"CNAME", "robots.txt", "_headers"})
"""files of hosts of static pages"""


def write(model: str | Path, folder: str | Path) -> Card:
    """Write the folder: the page, ONNX Runtime, and a model.

    Files of a folder that exists are replaced one by one, the metadata last: until then it has the SHA-256 of the old
    model, and the page reports another one. Hidden files, and those of hosts, stay.

    Args:
        model: Name of a pretrained model, model folder, or training run (its best model).
        folder: A new or empty folder, or one that this function wrote.

    Returns:
        The card of the model.

    Raises:
        ModelError: The model is damaged.
        OutputError: The folder holds other files, or cannot be written.
    """
    source, target = tagger.model_folder(model), Path(os.path.realpath(folder))
    files.check_name(folder)
    _check_replaceable(target)
    card = Card.read(source)
    content = _content(card, source)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with files.lock_directory(target, wait=True):
            _check_replaceable(target)
            for name, data in content.items():
                files.write(target / name, data)
            for path in target.iterdir():
                if path.name not in NAMES and _is_own(path):  # a partial file of a killed process
                    path.unlink()
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}); name another folder") from error
    return card


def _content(card: Card, source: Path) -> dict[str, bytes]:
    """The files of the folder, by name, in the order in which they are written."""
    onnx_model = export.build(card, source).SerializeToString()
    metadata = {**export.metadata(card), "sha256": hashlib.sha256(onnx_model).hexdigest()}
    static = resources.files("moodfield.browser") / "static"
    readme = source / README
    return {
        MODEL: _script("model", onnx_model),
        CARD: readme.read_bytes() if readme.is_file() else f"# {card.name}\n\n**Licence.** {card.licence}\n".encode(),
        **{name: (static / name).read_bytes() for name in STATIC},
        METADATA: _script("metadata", json.dumps(metadata, ensure_ascii=False).encode()),
    }


def _check_replaceable(folder: Path) -> None:
    """Raise `OutputError` for a path that is no folder, and for one that this module has not written."""
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in OF_HOSTS]
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{folder} is not a folder that can be read ({error.strerror}); name another one") from error
    if other := sorted(path.name for path in paths if not _is_own(path)):
        raise OutputError(f"{folder} has other files, such as {other[0]}; name a new or empty folder")
    complete = {path.name: path for path in paths if path.name in NAMES}
    scripts = [complete[name] for name in (MODEL, METADATA) if name in complete]  # a killed process may leave only one
    if complete and not any(path.read_bytes().startswith(_begin(path.stem)) for path in scripts):
        raise OutputError(f"{folder} was not written by moodfield web; name a new or empty folder")


def _is_own(path: Path) -> bool:
    """Whether a file may be one of the folder, or a partial one; a link is not."""
    name = re.sub(r"\.[0-9a-f]{16}\.part$", "", path.name)
    return name in NAMES and path.is_file() and not path.is_symlink()


def _begin(name: str) -> bytes:
    return f'moodfieldFile("{name}", "'.encode()


def _script(name: str, content: bytes) -> bytes:
    """A script that contains the bytes of a file, compressed."""
    text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return _begin(name) + f'{text}");\n'.encode()
