"""The page that tags in the browser: scores as in Python, its requests, and its messages. Skipped without Chromium."""

import csv
import hashlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile as sf

import browsers
import models
import moodfield
from commands import invoke
from moodfield import audio, files
from moodfield.browser import folder
from moodfield.decoding import decoders, mpeg, ogg
from moodfield.tagging import Tagging
from test_containers import damaged_ogg, interrupted_mpeg
from test_heads import with_head

MAX_BYTES = 15_000_000
"""of all that is transferred, even by a server that compresses nothing"""
WAIT = 120_000
"""milliseconds for one file, on a busy machine"""


class _Handler(SimpleHTTPRequestHandler):
    """A static server; below `/isolated/` it sends the headers that allow threads."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/isolated"))

    def end_headers(self) -> None:
        if self.path.startswith("/isolated"):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    with browsers.chromium("--disable-gpu") as chromium:
        yield chromium


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes."""
    target = tmp_path_factory.mktemp("web") / "moods"
    assert invoke("web", "-o", target).code == 0
    return target


@pytest.fixture(scope="module")
def address(written: Path) -> Iterator[str]:
    """Address of a server of that folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=written))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@dataclass
class Page:
    """An open page."""

    page: Any
    requests: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, *paths: Path) -> None:
        """Choose files, and wait until all are tagged or failed."""
        self.page.set_input_files("input[type=file]", paths)
        self.page.wait_for_selector(".summary button:has-text('Clear')", timeout=WAIT)

    def tag(self, *paths: Path) -> list[dict[str, Any]]:
        """The saved JSON for files, which are then removed."""
        self.add(*paths)
        rows = [json.loads(line) for line in self.save("Save JSON").splitlines()]
        self.page.click("text=Clear")
        return rows

    def fail(self, path: Path) -> str:
        """The message for a file that cannot be tagged."""
        self.add(path)
        message = self.page.inner_text("li.failed .problem")
        self.page.click("text=Clear")
        return str(message)

    def save(self, button: str) -> str:
        """What a button saves."""
        with self.page.expect_download() as download:
            self.page.click(f"text={button}")
        return Path(download.value.path()).read_text(encoding="utf-8")


def opened(browser: Any, url: str, *, script: str = "") -> Page:
    """Open an address in a window of its own."""
    page = Page(browser.new_context().new_page())
    page.page.on("request", lambda request: page.requests.append(request))
    page.page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.page.on("console", lambda message: page.faults.append(message.text))
    if script:
        page.page.add_init_script(script)
    page.page.goto(url)
    return page


@pytest.fixture(scope="module")
def shared(browser: Any, address: str) -> Page:
    """A page that stays open, since loading the model takes a second."""
    return opened(browser, address)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens an address."""
    before = list(browser.contexts)
    yield partial(opened, browser)
    for context in browser.contexts:
        if context not in before:
            context.close()


@pytest.fixture
def page(shared: Page) -> Iterator[Page]:
    """The page of a server without special headers, without files; errors on it are faults."""
    shared.faults.clear()
    if clear := shared.page.query_selector("text=Clear"):  # a test before has failed
        clear.click()
    yield shared
    assert shared.faults == []


def stereo(seconds: float, rate: int, *, seed: int = 0) -> np.ndarray:
    left, right = (models.music(seconds, seed=seed + side, rate=rate).samples for side in range(2))
    return np.stack([left, right], axis=1)


def encoded(path: Path, seconds: float, rate: int, *, seed: int = 0) -> bytes:
    """A file of music in the format of its suffix."""
    track = models.music(seconds, seed=seed, rate=rate)
    options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    with sf.SoundFile(path, "w", rate, 1, **options) as file:
        for start in range(0, len(track.samples), 2**15):  # libvorbis crashes on long pieces
            file.write(track.samples[start : start + 2**15])
    return path.read_bytes()


def assert_equal(row: dict[str, Any], tagging: Tagging, *, tolerance: float) -> None:
    """Compare the values of the page with those of Python."""
    expected = tagging.to_dict(over_time=True)
    assert row["duration"] == pytest.approx(tagging.duration, abs=0.002)
    for name, limit in (("scores", tolerance), ("evidence", 300 * tolerance)):
        assert row[name] == pytest.approx(expected[name], abs=limit), name
    assert row["thresholds"] == expected["thresholds"]
    assert row["priors"] == expected["priors"]
    assert row["times_usual"] == pytest.approx(expected["times_usual"], rel=0.05, abs=0.01)
    assert (row["decided"], row["moods"], row["themes"]) == (expected["decided"], expected["moods"], expected["themes"])
    assert row.keys() == tagging.to_dict().keys()
    if damage := expected.get("warnings"):
        assert row["warnings"] == by_name(damage)


def by_name(warnings: Any) -> list[str]:
    """Warnings with the name of the file alone, as the page has them."""
    return [re.sub(r"^.*/", "", line) for line in warnings]


# ---------------------------------------------------------------- equal to Python


WAVS = {
    "16 bits, 44.1 kHz": ("PCM_16", 44_100, 2),
    "24 bits, 48 kHz": ("PCM_24", 48_000, 2),
    "32 bits, mono, 22.05 kHz": ("PCM_32", 22_050, 1),
    "8 bits, mono, 11.025 kHz": ("PCM_U8", 11_025, 1),
    "float, 96 kHz": ("FLOAT", 96_000, 2),
    "double, the model's rate": ("DOUBLE", 16_000, 1),
    "a rate without common factors": ("PCM_16", 44_101, 1),
    "a high rate": ("PCM_16", 192_000, 1),
    "a high rate without common factors": ("PCM_16", 192_001, 1),
}


@pytest.mark.parametrize("kind", WAVS)
def test_wav_files_have_the_scores_of_python(page, tmp_path, kind):
    subtype, rate, channels = WAVS[kind]
    path = tmp_path / "a.wav"
    sf.write(path, stereo(4.3, rate)[:, :channels], rate, subtype)
    [row] = page.tag(path)
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-3)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3"])
def test_compressed_files_have_the_scores_of_python(page, tmp_path, suffix):
    rate = 48_000 if suffix == "opus" else 44_100
    path = tmp_path / f"a.{suffix}"
    encoded(path, 8, rate)
    [row] = page.tag(path)
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-2 if suffix == "mp3" else 1e-3)


@pytest.mark.parametrize(("kind", "endian"), [("RF64", "FILE"), ("WAVEX", "FILE"), ("WAV", "BIG")])
def test_variants_of_wav_have_the_scores_of_python(page, tmp_path, kind, endian):
    path = tmp_path / "a.wav"
    sf.write(path, stereo(3, 22_050), 22_050, "PCM_24", endian, kind)
    [row] = page.tag(path)
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-3)


CHAINS = {
    "ogg": (44_100, 22_050), "opus": (48_000, 48_000), "mp3": (44_100, 32_000), "flac": (44_100, 48_000),
    "wav": (44_100, 16_000),
}  # fmt: skip


@pytest.mark.parametrize("suffix", CHAINS)
def test_all_streams_of_a_file_are_read(page, tmp_path, suffix):
    """Files that were joined, with other sample rates."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"".join(encoded(path, 3, rate, seed=seed) for seed, rate in enumerate(CHAINS[suffix])))
    [row] = page.tag(path)
    tagging = moodfield.load().tag(path)
    assert row["duration"] == pytest.approx(6, abs=0.1)
    assert "warnings" not in row
    assert_equal(row, tagging, tolerance=1e-2 if suffix == "mp3" else 1e-3)


def test_opus_that_begins_later_is_not_damaged(page, tmp_path):
    """A recording of a running stream: its first position is not 0."""
    content = encoded(tmp_path / "whole.opus", 14, 48_000)
    pages = [match.start() for match in re.finditer(b"OggS", content)]
    path = tmp_path / "a.opus"
    path.write_bytes(content[: pages[2]] + content[pages[5] :])
    [row] = page.tag(path)
    tagging = moodfield.load().tag(path)
    assert "warnings" not in row
    assert row["duration"] == pytest.approx(tagging.duration, abs=0.1)
    assert row["duration"] < 13
    assert row["scores"] == pytest.approx(tagging.to_dict()["scores"], abs=2e-2)


def test_bytes_before_mp3_are_left_out_as_in_python(page, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(bytes(20_000) + encoded(tmp_path / "b.mp3", 5, 44_100))
    [row] = page.tag(path)
    assert "not MPEG frames" in row["warnings"][0]
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-2)


def test_the_search_ends_after_many_damaged_ogg_pages_as_in_python(page, tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(encoded(path, 5, 44_100) + damaged_ogg(ogg.MAX_BAD + 100))
    [row] = page.tag(path)
    assert f"{ogg.MAX_BAD + 2 - decoders.MAX_FAULTS} more" in "".join(row["warnings"])
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-3)


@pytest.mark.slow
def test_the_search_ends_after_many_gaps_between_mpeg_frames_as_in_python(page, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded(path, 5, 44_100) + interrupted_mpeg(mpeg.MAX_GAPS + 100))
    [row] = page.tag(path)
    assert f"{mpeg.MAX_GAPS + 1 - decoders.MAX_FAULTS} more" in "".join(row["warnings"])
    assert row["warnings"] == by_name(moodfield.load().tag(path).warnings)


def test_real_music_has_the_scores_of_python(page, data, tmp_path):
    paths = [
        *audio.find(data / "emotify")[:1],
        *[path for path in audio.find(data / "more-music") if path.suffix == ".mp3"][:1],
    ]
    if len(paths) < 2:
        pytest.skip("no music")
    model = moodfield.load()
    for path in paths:
        [row] = page.tag(path)
        assert_equal(row, model.tag(path), tolerance=1e-2 if path.suffix == ".mp3" else 1e-3)
    waveform = audio.read(paths[0], sample_rate=44_100)
    sf.write(tmp_path / "real.wav", np.clip(waveform.samples, -1, 1), 44_100)
    [row] = page.tag(tmp_path / "real.wav")
    assert_equal(row, model.tag(tmp_path / "real.wav"), tolerance=1e-3)


def test_long_tracks_are_cut_into_segments_with_equal_scores(page, tmp_path):
    path = tmp_path / "long.flac"
    sf.write(path, models.music(200, rate=16_000).samples, 16_000)
    [row] = page.tag(path)
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-4)


def test_other_formats_are_decoded_by_the_browser(page, tmp_path):
    """Chromium's decoder of AAC trims the padding of the encoder in another way, so the tolerance is that of mp3."""
    pytest.importorskip("av")
    if not (ffmpeg := shutil.which("ffmpeg")):
        pytest.skip("no m4a file: ffmpeg is not installed")
    track = models.save(tmp_path / "a.wav", models.music(20, rate=44_100))
    path = tmp_path / "a.m4a"
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", track, "-b:a", "192k", path], check=True)
    [row] = page.tag(path)
    assert row["scores"] == pytest.approx(moodfield.load().tag(path).to_dict()["scores"], abs=1e-2)


def test_channels_of_opposite_polarity_are_subtracted(page, tmp_path):
    track = models.music(5, rate=44_100).samples
    sf.write(tmp_path / "a.wav", np.stack([track, -track], axis=1), 44_100)
    [row] = page.tag(tmp_path / "a.wav")
    assert_equal(row, moodfield.load().tag(tmp_path / "a.wav"), tolerance=1e-3)


def test_polarity_is_that_of_the_whole_track(page, tmp_path):
    track = models.music(20, rate=44_100).samples
    silence, part = np.zeros(6 * 44_100, np.float32), track[: 6 * 44_100]
    left, right = np.concatenate([silence, part, track]), np.concatenate([silence, -part, track])
    sf.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100)
    [row] = page.tag(tmp_path / "a.wav")
    assert_equal(row, moodfield.load().tag(tmp_path / "a.wav"), tolerance=1e-3)


def test_threads_are_used_where_the_page_is_isolated(open_page, address, tmp_path):
    path = models.save(tmp_path / "a.wav", models.music(5, rate=44_100))
    page = open_page(f"{address}isolated/")
    [row] = page.tag(path)
    assert page.page.evaluate("crossOriginIsolated")
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-3)


def test_the_folder_works_from_a_disk(open_page, written, tmp_path):
    path = models.save(tmp_path / "a.wav", models.music(5, rate=44_100))
    page = open_page((written / "index.html").as_uri())
    [row] = page.tag(path)
    assert_equal(row, moodfield.load().tag(path), tolerance=1e-3)
    assert page.faults == []


@pytest.mark.parametrize("name", ["cp_model", "crnn_model"])
def test_models_of_other_kinds_have_the_scores_of_python(request, open_page, tmp_path, name):
    """Perceptual mels, whose floor is that of the whole track, and networks of whole tracks."""
    source = request.getfixturevalue(name).folder
    folder.write(source, tmp_path / "other")
    path = models.save(tmp_path / "a.wav", models.music(20))
    page = open_page((tmp_path / "other" / "index.html").as_uri())
    [row] = page.tag(path)
    expected = moodfield.load(source).tag(path)
    assert row["scores"] == pytest.approx(expected.to_dict()["scores"], abs=1e-3)
    assert row["decided"] == list(expected.decided)


def test_further_heads_have_the_scores_of_python(fa_model, open_page, tmp_path):
    source = with_head(fa_model.folder, tmp_path / "two")
    folder.write(source, tmp_path / "page")
    path = models.save(tmp_path / "a.wav", models.music(12))
    [row] = open_page((tmp_path / "page" / "index.html").as_uri()).tag(path)
    expected = moodfield.load(source).tag(path).to_dict()["heads"]
    assert row["heads"].keys() == {"mine"}
    for name, values in expected["mine"].items():
        assert row["heads"]["mine"][name] == (pytest.approx(values, abs=2e-3) if name != "decided" else values), name


KEEP_RESULT = """
window.Worker = class extends Worker {
    constructor(url) {
        super(url);
        this.addEventListener("message", ({ data }) => { if (data.kind === "tagged") window.result = data.result; });
    }
};
"""


def test_segments_of_mels_with_much_overlap_have_the_scores_of_python(fa_model, open_page, tmp_path):
    """Frames that a segment cuts at its end are not used: 15 of them for a window of 32 hops."""
    config = replace(fa_model.card.mel, kind="plain", n_fft=8_192, hop_length=256)
    assert fa_model.card.lengths.stride * config.hop_length >= config.n_fft / 2  # else tracks are not cut
    source = models.varied(fa_model, tmp_path / "model", mel=config)
    folder.write(source, tmp_path / "page")
    track, end = models.music(30), 2_046 * config.hop_length
    track.samples[:] *= 1e-3
    track.samples[end : end + 2_000] *= 1e3  # what is loud begins where the first segment ends
    path = tmp_path / "a.wav"
    sf.write(path, track.samples, track.sample_rate, "FLOAT")
    page = open_page((tmp_path / "page" / "index.html").as_uri(), script=KEEP_RESULT)
    page.tag(path)
    result, expected = page.page.evaluate("result.over_time"), moodfield.load(source).tag(path).over_time
    assert len(result["seconds"]) == len(expected.seconds)
    np.testing.assert_allclose(list(result["scores"].values()), expected.scores, atol=1e-3)


# ---------------------------------------------------------------- what is transferred


def test_nothing_leaves_the_browser(open_page, address, tmp_path):
    """Every request is for a file of the folder and has no content, and the page itself forbids other places."""
    page = open_page(address)
    page.tag(models.save(tmp_path / "a.wav", models.music(3, rate=44_100)))
    paths = {request.url.removeprefix(address) for request in page.requests if not request.url.startswith("blob:")}
    assert paths == {"", *folder.NAMES} - {folder.PAGE, folder.CARD, "licences.txt"}
    assert all((request.method, request.post_data) == ("GET", None) for request in page.requests)


def test_other_servers_cannot_be_reached(open_page, address):
    """Not even one that allows it, as a page without the policy shows."""
    arrived: list[str] = []

    class Open(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>open</p>")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Open)
    Thread(target=server.serve_forever, daemon=True).start()
    other = f"http://127.0.0.1:{server.server_port}/"
    ask = """async url => {
        const violated = new Promise(resolve => {
            addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            setTimeout(() => resolve(""), 2000);
        });
        const sent = await fetch(url).then(() => true, () => false);
        return [sent, sent ? "" : await violated];
    }"""
    try:
        free, page = open_page(other), open_page(address)
        arrived.clear()
        assert free.page.evaluate(ask, f"{other}free") == [True, ""]
        assert page.page.evaluate(ask, f"{other}page") == [False, "connect-src"]
        page.page.evaluate("url => { new Image().src = url; navigator.sendBeacon(url) }", f"{other}page")
        page.page.wait_for_timeout(200)
        assert arrived == ["/free"]
    finally:
        server.shutdown()
        server.server_close()


def test_little_is_transferred(written):
    assert sum(path.stat().st_size for path in written.iterdir()) < MAX_BYTES


def test_the_model_is_loaded_when_a_file_is_there(open_page, address):
    page = open_page(address)
    page.page.wait_for_selector("text=Model: default")
    assert f"{address}{folder.MODEL}" not in [request.url for request in page.requests]


# ---------------------------------------------------------------- using it


def test_several_files_are_saved_as_csv(page, tmp_path):
    paths = [models.save(tmp_path / f"{seed}.wav", models.music(3, seed=seed, rate=44_100)) for seed in range(3)]
    page.add(*paths)
    rows = list(csv.DictReader(page.save("Save CSV").splitlines()))
    page.page.click("text=Clear")
    assert [row["source"] for row in rows] == [path.name for path in paths]
    model = moodfield.load()
    assert [row["decided"] for row in rows] == ["; ".join(model.tag(path).decided) for path in paths]


def test_a_cancelled_file_is_removed_and_the_next_one_tagged(page, tmp_path):
    long, short = tmp_path / "long.wav", models.save(tmp_path / "short.wav", models.music(3, rate=44_100))
    sf.write(long, np.tile(models.music(60, rate=16_000).samples, 15), 16_000)
    page.page.set_input_files("input[type=file]", long)
    page.page.wait_for_selector("text=/tagging, [1-9]/", timeout=WAIT)
    page.page.click("text=Cancel")
    page.page.wait_for_selector(".zone:not(.small)")
    [row] = page.tag(short)
    assert row["source"] == "short.wav"


def test_what_cannot_be_tagged_is_said_in_words(page, tmp_path):
    text, silent, ripple, short, slow, adpcm = (
        tmp_path / f"{name}.wav" for name in ("text", "silent", "ripple", "short", "slow", "adpcm")
    )
    text.write_text("no music " * 1000)
    sf.write(silent, np.zeros(44_100), 44_100)
    sf.write(ripple, 0.5 + 1e-4 * np.random.default_rng(0).standard_normal(44_100), 44_100, "FLOAT")
    sf.write(short, stereo(0.5, 44_100), 44_100)
    sf.write(slow, models.music(1, rate=2_400).samples, 800)
    sf.write(adpcm, models.music(3, rate=44_100).samples, 44_100, "IMA_ADPCM")
    assert "unknown to this browser" in page.fail(text)
    assert "silent" in page.fail(silent)
    assert "silent" in page.fail(ripple)
    assert "at least 1 s" in page.fail(short)
    assert "800 samples per second" in page.fail(slow)
    assert "export it as PCM" in page.fail(adpcm)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "wav"])
def test_damaged_parts_are_left_out_with_the_warnings_of_python(open_page, address, tmp_path, suffix):
    path = models.save(tmp_path / f"a.{suffix}", models.music(10, rate=44_100))
    content = bytearray(path.read_bytes())
    if suffix == "wav":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    page = open_page(address)  # a decoder may complain on the console
    [row] = page.tag(path)
    tagging = moodfield.load().tag(path)
    if suffix == "flac":  # its words have the reason that libsndfile gives
        assert re.match(r"a.flac: it is damaged: [\d,]+ samples of 441,000 can be decoded", row["warnings"][0])
    else:
        assert row["warnings"] == by_name(tagging.warnings)
    assert 3 < row["duration"] < 10


COUNT_WORKERS = """
window.workers = { started: 0, ended: 0 };
window.Worker = class extends Worker {
    constructor(url) { super(url); workers.started += 1; }
    terminate() { super.terminate(); workers.ended += 1; }
};
"""


def test_a_file_that_cannot_be_tagged_fails_alone_and_the_worker_goes_on(open_page, address, tmp_path):
    good = models.save(tmp_path / "good.flac", models.music(3, rate=44_100))
    bad = tmp_path / "bad.flac"
    bad.write_bytes(good.read_bytes()[:200] + bytes(5000))
    page = open_page(address, script=COUNT_WORKERS)
    rows = page.tag(bad, good, bad, good)
    assert ["error" in row for row in rows] == [True, False] * 2
    assert page.page.evaluate("workers") == {"started": 1, "ended": 0}


@pytest.mark.parametrize("is_consistent", [True, False])
def test_a_model_that_cannot_be_started_leaves_no_worker(open_page, written, tmp_path, is_consistent):
    shutil.copytree(written, copy := tmp_path / "copy")
    (copy / folder.MODEL).write_bytes(folder._script("model", b"no model"))
    if is_consistent:
        values = {
            **folder.export.metadata(moodfield.load().models[0].card),
            "sha256": hashlib.sha256(b"no model").hexdigest(),
        }
        (copy / folder.METADATA).write_bytes(folder._script("metadata", json.dumps(values).encode()))
    page = open_page((copy / "index.html").as_uri(), script=COUNT_WORKERS)
    path = models.save(tmp_path / "a.wav", models.music(3, rate=44_100))
    message = page.fail(path)
    assert ("cannot be started" if is_consistent else "different models") in message
    workers = page.page.evaluate("workers")
    assert workers["started"] == workers["ended"] == int(is_consistent)


def test_a_browser_without_simd_is_told(open_page, address, tmp_path):
    page = open_page(address, script="WebAssembly.validate = () => false")
    assert "SIMD" in page.fail(models.save(tmp_path / "a.wav", models.music(3, rate=44_100)))


def test_a_browser_that_blocks_storage_tags(open_page, address, tmp_path):
    script = (
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('', 'SecurityError') } })"
    )
    page = open_page(address, script=script)
    assert len(page.tag(models.save(tmp_path / "a.wav", models.music(3, rate=44_100)))) == 1


def test_an_incomplete_folder_is_told(open_page, written, tmp_path):
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / "wasm.js").unlink()
    page = open_page((tmp_path / "copy" / "index.html").as_uri())
    assert "wasm.js" in page.fail(models.save(tmp_path / "a.wav", models.music(3, rate=44_100)))


# ---------------------------------------------------------------- the command


def test_a_folder_with_other_files_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert invoke("web", "-o", tmp_path).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_page_of_a_person_is_kept(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("my page")
    assert invoke("web", "-o", tmp_path).code == 2
    assert page.read_text() == "my page"
    target = tmp_path / "target.html"
    page.rename(target)
    folder_ = tmp_path / "site"
    folder_.mkdir()
    (folder_ / "metadata.js").write_text('moodfieldFile("metadata", "")')
    (folder_ / "index.html").symlink_to(target)
    assert invoke("web", "-o", folder_).code == 2
    assert target.read_text() == "my page"


def test_the_folder_is_written_again_with_files_of_its_host(written, tmp_path):
    shutil.copytree(written, target := tmp_path / "site")
    (target / f"model.js.{'0' * 16}.part").write_text("of a killed process")
    (target / ".git").mkdir()
    (target / ".git" / "config").write_text("mine")
    (target / "CNAME").write_text("mine.example")
    (target / folder.PAGE).write_text("an older page")
    folder.write("default", target)
    assert {path.name for path in target.iterdir()} == {*folder.NAMES, ".git", "CNAME"}
    assert (target / ".git" / "config").read_text() == "mine"
    assert "<!doctype" in (target / folder.PAGE).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_the_folder_stays_the_same_one(written, tmp_path, monkeypatch):
    """It may be a mount point, have a mode of its own, and hold what cannot be copied."""
    shutil.copytree(written, target := tmp_path / "site")
    target.chmod(0o751)
    before = target.stat()
    socket_ = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(target)  # the path of a socket has at most 107 bytes
    socket_.bind(".socket")
    folder.write("default", target)
    socket_.close()
    after = target.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert (target / ".socket").is_socket()


def test_a_folder_that_cannot_be_written_is_completed_later(written, tmp_path, monkeypatch):
    """Until then the page finds the old metadata, or none."""
    shutil.copytree(written, old := tmp_path / "old")
    metadata = (old / folder.METADATA).read_bytes()
    atomic_write = files.write

    def write(path: Path, content: bytes) -> None:
        if path.name == folder.PAGE:
            raise OSError(28, "No space left on device")
        atomic_write(path, content)

    monkeypatch.setattr(files, "write", write)
    for target in (old, tmp_path / "new"):
        with pytest.raises(moodfield.errors.OutputError, match="No space left"):
            folder.write("default", target)
    assert (old / folder.METADATA).read_bytes() == metadata
    assert not (tmp_path / "new" / folder.METADATA).exists()
    monkeypatch.undo()
    for target in (old, tmp_path / "new"):
        folder.write("default", target)
        assert {path.name: path.read_bytes() for path in target.iterdir()} == {
            path.name: path.read_bytes() for path in written.iterdir()
        }


def test_the_metadata_is_written_last(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(files, "write", lambda path, _: names.append(path.name))
    folder.write("default", tmp_path)
    assert set(names) == folder.NAMES
    assert names[-1] == folder.METADATA


def test_everything_in_the_scripts_has_the_text_of_its_licence():
    """Of the direct dependencies, of theirs, and of what they contain in compiled form."""
    text = (folder.resources.files("moodfield.browser") / "static" / "licences.txt").read_text(encoding="utf-8")
    parts = dict(part.strip().split("\n", 1) for part in text.split(f"\n{'-' * 79}\n")[1:])
    package = json.loads((Path(__file__).parents[1] / "web" / "package.json").read_text())
    not_here = {"d3-selection", "d3-zoom", "kdbush"}  # of the map of the other page
    packages = {name.split()[0] for name in parts if re.search(r" \d", name)}
    assert packages >= package["dependencies"].keys() - not_here
    for contained in ("libmpg123", "libFLAC", "libogg", "libvorbis", "libopus", "GPL-3.0", "puff"):
        assert any(name.startswith(contained) for name in parts)
    for name, words in parts.items():
        assert re.search("permission|permitted|GNU", words, re.I), name
        assert re.search("copyright", words, re.I), name
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in text


def test_the_folder_has_the_licence_of_the_model(written):
    assert "**Licence.**" in (written / folder.CARD).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_built_page_is_that_of_its_sources(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    root = Path(__file__).parents[1]
    shutil.copytree(root / "web", tmp_path / "web", ignore=shutil.ignore_patterns("node_modules"))
    commands = (["npm", "ci", "--no-audit", "--no-fund"], ["node", "build-browser.mjs", tmp_path / "static"])
    for command in commands:
        subprocess.run(command, cwd=tmp_path / "web", check=True, capture_output=True)
    committed = root / "src" / "moodfield" / "browser" / "static"
    assert {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()} == {
        path.name: path.read_bytes() for path in committed.iterdir()
    }
