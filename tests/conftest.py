"""Fixtures of all tests; shapes and types are checked while tests run."""

import fcntl
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest

if TYPE_CHECKING:
    from models import Exported

ROOT = Path(__file__).parent.parent
ONNX_CACHE = ROOT / ".cache" / "tests" / "onnx"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background: programs that tests start, and interrupt, would inherit that they ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # the same below nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

jaxtyping.install_import_hook("moodfield", "beartype.beartype")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that `MOODFIELD_DATA` names; without it, the test is skipped."""
    folder = os.environ.get("MOODFIELD_DATA")
    if not folder:
        pytest.skip("real data: set MOODFIELD_DATA to its folder")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"real data: MOODFIELD_DATA={folder} is not a folder")
    return path


class _SavedProgram:
    """An exported network that lies in the cache."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, path: str | Path, *, external_data: bool) -> None:
        """Copy it."""
        assert not external_data
        shutil.copyfile(self.path, path)


@pytest.fixture(scope="session", autouse=True)
def onnx_cache() -> Iterator[None]:
    """Cache ONNX exports on disk by content; an export takes 5 to 50 seconds, and the workers share the cache.

    The key holds all that an export depends on: weights, shapes and options, the sources of the networks and of the
    export, the versions of torch and onnxscript.
    """
    from importlib.metadata import version

    import torch

    sources = [*sorted((ROOT / "src/moodfield/nets").glob("*.py")), ROOT / "src/moodfield/training/export.py"]
    common = [version("torch"), version("onnxscript"), *(path.read_text(encoding="utf-8") for path in sources)]
    export = torch.onnx.export

    def cached(module: torch.nn.Module, args: tuple[torch.Tensor, ...], **options: Any) -> _SavedProgram:
        key = hashlib.sha256(repr((common, module, [tuple(each.shape) for each in args], options)).encode())
        for name, values in module.state_dict().items():
            key.update(name.encode() + values.contiguous().numpy().tobytes())
        ONNX_CACHE.mkdir(parents=True, exist_ok=True)
        path = ONNX_CACHE / f"{key.hexdigest()[:32]}.onnx"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                part = path.with_suffix(".part")
                export(module, args, **options).save(part, external_data=False)
                part.rename(path)
        return _SavedProgram(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", cached)
        yield


@pytest.fixture(scope="session")
def cp_model(tmp_path_factory: pytest.TempPathFactory) -> "Exported":
    """A tiny CP-ResNet with the folder it was exported to; not to be changed."""
    import models  # here, since the rooms it enters must find the hook installed

    return models.exported(tmp_path_factory.mktemp("models") / "cp", "cp_resnet", rho_freq=1)


@pytest.fixture(scope="session")
def crnn_model(tmp_path_factory: pytest.TempPathFactory) -> "Exported":
    """A small CRNN, which judges whole tracks, as a model folder; not to be changed."""
    import models

    return models.exported(tmp_path_factory.mktemp("models") / "crnn", "crnn")


@pytest.fixture(scope="session")
def fa_model(tmp_path_factory: pytest.TempPathFactory) -> "Exported":
    """A tiny frequency-aware CP-ResNet with the folder it was exported to; not to be changed."""
    import models

    return models.exported(tmp_path_factory.mktemp("models") / "fa", "fa_resnet", rho_freq=1, rho_time=7, seed=1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two indexes, `train.tsv` and `validation.tsv`, with their `music`; not to be changed but by mels in `store`."""
    import noises

    folder = tmp_path_factory.mktemp("noises")
    noises.write(folder, "train", 12, seed=1)
    noises.write(folder, "validation", 8, seed=2)
    return folder


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of high and low noises; not to be changed."""
    import noises

    folder = tmp_path_factory.mktemp("music")
    noises.write_folders(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of embeddings that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model folders without a network in the ONNX file, which takes seconds."""
    import models

    models.replace_export(monkeypatch, b"a network")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums are then always added in one order, here and in other processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
