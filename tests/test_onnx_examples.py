"""The exported model without moodfield: in Node with equal scores, and the examples for Python, Node and a web page."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile as sf

import models
import moodfield
from moodfield.onnx_export import export

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "onnx"
PACKAGES = ROOT / "web" / "node_modules"
SONG = models.music(12.3, seed=4, rate=16_000)
SCORES = """
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
const session = await ort.InferenceSession.create(readFileSync("moodfield.onnx"));
for (const path of process.argv.slice(2)) {
  const samples = new Float32Array(new Uint8Array(readFileSync(path)).buffer);
  const { scores, embedding } = await session.run({ waveform: new ort.Tensor("float32", samples, [samples.length]) });
  console.log(JSON.stringify([[...scores.data], [...embedding.data]]));
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exported model, a song, and the examples."""
    path = tmp_path_factory.mktemp("examples")
    export.export("default", path / "moodfield.onnx")
    SONG.samples.tofile(path / "song.f32")
    for example in EXAMPLES.iterdir():
        shutil.copy(example, path)
    return path


@pytest.fixture
def node(folder: Path) -> str:
    """Node, with onnxruntime-web in the folder."""
    if not (program := shutil.which("node")):
        pytest.skip("node is not installed")
    if not (PACKAGES / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: cd web && npm ci")
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(PACKAGES)
    return program


def run(folder: Path, *command: object) -> str:
    return subprocess.run(list(map(str, command)), cwd=folder, check=True, capture_output=True, text=True).stdout


def expected() -> dict[str, str]:
    """The decided tags, and their scores as the examples print them."""
    tagging = moodfield.load().tag(SONG)
    scores = dict(zip(tagging.vocabulary, tagging.scores, strict=True))
    assert tagging.decided
    return {tag: f"{scores[tag]:.3f}" for tag in tagging.decided}


def printed(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines())


def test_scores_in_node_equal_those_of_the_tagger(folder, node):
    (folder / "scores.mjs").write_text(SCORES)
    model, tracks = moodfield.load(), [models.music(seconds, rate=16_000) for seconds in (1, 7.77, 60.01, 150)]
    for number, track in enumerate(tracks):
        track.samples.tofile(folder / f"{number}.f32")
    lines = run(folder, node, "scores.mjs", *(f"{number}.f32" for number in range(len(tracks)))).splitlines()
    for line, track in zip(lines, tracks, strict=True):
        (scores, embedding), tagging = json.loads(line), model.tag(track)
        np.testing.assert_allclose(scores, tagging.scores, atol=1e-4)
        np.testing.assert_allclose(embedding, tagging.embedding, rtol=1e-3, atol=1e-4)


def test_the_example_for_python(folder):
    assert printed(run(folder, sys.executable, "tag.py", "song.f32")) == expected()


def test_the_example_for_python_needs_no_moodfield(folder):
    lines = [
        "import sys",
        "sys.argv[1:] = ['song.f32']",
        "exec(open('tag.py').read())",
        "assert 'moodfield' not in sys.modules",
    ]
    run(folder, sys.executable, "-c", "\n".join(lines))


def test_the_example_for_node(folder, node):
    assert printed(run(folder, node, "tag.mjs", "song.f32")) == expected()


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def page(folder: Path, node: str) -> Iterator[Any]:
    """The example of a web page, with the files that it names beside it."""
    if not (path := shutil.which("chromium")):
        pytest.skip("no browser: apt-get install chromium")
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(PACKAGES / "onnxruntime-web" / "dist" / name, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.importorskip("playwright.sync_api").sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/tag.html")
        yield page
        chromium.close()
    server.shutdown()
    server.server_close()


def test_the_example_for_a_web_page(page, tmp_path):
    sf.write(tmp_path / "song.wav", SONG.samples, SONG.sample_rate, "FLOAT")
    page.set_input_files("input", tmp_path / "song.wav")
    page.wait_for_function("document.querySelector('pre').textContent", timeout=60_000)
    assert printed(page.inner_text("pre")) == expected()
