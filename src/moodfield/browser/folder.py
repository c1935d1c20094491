"""Write a static folder with a page that tags music in the browser, without a server."""

import base64
import gzip
import json
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from moodfield import files, tagger
from moodfield.card import Card
from moodfield.errors import OutputError
from moodfield.onnx_export import export

PAGE = "index.html"
STATIC = ("glue.js", "licences.txt", "page.css", "page.js", "wasm.js", "worker.js", PAGE)
"""files that are the same for every model; the page comes last"""
MODEL, METADATA = "model.js", "metadata.js"
"""scripts with the model and its metadata"""
OF_HOSTS = frozenset({"CNAME", "robots.txt", "_headers"})
"""files of hosts of static pages"""


def write(model: str | Path, folder: str | Path) -> Card:
    """Write the folder: the page, ONNX Runtime, and a model.

    Args:
        model: Name of a pretrained model, model folder, or training run (its best model).
        folder: A new or empty folder, or one that this function wrote.

    Returns:
        The card of the model.

    Raises:
        ModelError: The model is damaged.
        OutputError: The folder holds other files, or cannot be written.
    """
    source, target = tagger.model_folder(model), Path(folder)
    _check_replaceable(target)
    card = Card.read(source)
    onnx_model = export.build(card, source)
    content = {
        MODEL: _script("model", onnx_model.SerializeToString()),
        METADATA: _script("metadata", json.dumps(export.metadata(card), ensure_ascii=False).encode()),
    }
    static = resources.files("moodfield.browser") / "static"
    content |= {name: (static / name).read_bytes() for name in STATIC}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            files.write(target / name, data)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror}); name another folder") from error
    return card


def _check_replaceable(folder: Path) -> None:
    """Raise `OutputError` for a path that is no folder, and for one that this function has not written.

    Hidden files and what hosts of pages need may be in it; partial files of a killed process are removed.
    """
    files.check_name(folder)
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in OF_HOSTS]
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{folder} is not a folder that can be read ({error.strerror}); name another one") from error
    own = {*STATIC, MODEL, METADATA}
    if other := sorted(path.name for path in paths if not _is_own(path, own)):
        raise OutputError(f"{folder} has other files, such as {other[0]}; name a new or empty folder")
    first = folder / METADATA
    if paths and not (first.is_file() and first.read_bytes().startswith(_begin("metadata"))):
        raise OutputError(f"{folder} was not written by moodfield web; name a new or empty folder")
    for path in paths:
        if path.suffix == ".part":
            path.unlink()


def _is_own(path: Path, names: Collection[str]) -> bool:
    """Whether a file may be one of these, or a partial one; a link is not."""
    name = re.sub(r"\.[0-9a-f]{16}\.part$", "", path.name)
    return name in names and path.is_file() and not path.is_symlink()


def _begin(name: str) -> bytes:
    return f'moodfieldFile("{name}", "'.encode()


def _script(name: str, content: bytes) -> bytes:
    """A script that contains the bytes of a file, compressed."""
    text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return _begin(name) + f'{text}");\n'.encode()
