"""Sources of audio: paths, bytes, file objects, samples with their rate; other sources raise."""

import asyncio
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soxr

import models
from models import RATE, Exported
from moodfield import audio, tagger
from moodfield.errors import AudioError


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> Path:
    return models.save(tmp_path_factory.mktemp("songs") / "song.flac", models.music(4, seed=1))


def test_bytes_and_file_objects_equal_the_file(song, tmp_path):
    expected = audio.read(song, sample_rate=16_000).samples
    content = song.read_bytes()
    with song.open("rb") as opened, tempfile.SpooledTemporaryFile(max_size=10) as spooled:
        spooled.write(content)
        for source in (content, bytearray(content), memoryview(content), io.BytesIO(content), opened, spooled):
            np.testing.assert_array_equal(audio.read(source, sample_rate=16_000).samples, expected)


def test_a_file_object_is_read_from_its_start_and_stays_open(song):
    file = io.BytesIO(song.read_bytes())
    file.read(1000)
    assert audio.duration(file) == 4.0
    assert audio.duration(file) == 4.0
    assert not file.closed


@pytest.mark.parametrize("name", ["x.raw", None, 7, "x.mp3"])
def test_the_name_of_a_file_object_does_not_matter(song, name):
    file = io.BytesIO(song.read_bytes())
    file.name = name
    assert audio.duration(file) == 4.0


def samples(channels: int = 2) -> np.ndarray:
    return np.stack([models.music(3, seed=seed).samples for seed in range(channels)], axis=1)


@pytest.mark.parametrize(
    "samples_",
    [
        samples(),
        samples().T,
        np.asfortranarray(samples()),
        samples().astype(np.float64),
        np.rint(samples() * 2**15).astype(np.int16),
        np.rint(samples() * 2.0**31).astype(np.int32),
        np.rint(samples() * 2**7 + 2**7).astype(np.uint8),
    ],
    ids=["samples × channels", "channels × samples", "Fortran order", "float64", "int16", "int32", "uint8"],
)
@pytest.mark.parametrize("rate", [RATE, np.int64(RATE), float(RATE)])
def test_samples_of_several_channels_are_averaged(samples_, rate):
    result = audio.read((samples_, rate), sample_rate=16_000).samples
    expected = soxr.resample(samples().mean(axis=1), RATE, 16_000, quality="HQ")
    assert np.abs(result - expected).max() < (2**-6 if samples_.dtype == np.uint8 else 2**-14)


def test_samples_of_one_channel():
    mono = models.music(3)
    np.testing.assert_array_equal(audio.read((mono.samples, RATE), sample_rate=RATE).samples, mono.samples)
    np.testing.assert_array_equal(audio.read((mono.samples[None], RATE), sample_rate=RATE).samples, mono.samples)


def test_all_sources_of_a_song_give_the_same_tagging(song, cp_model: Exported):
    model = tagger.load(cp_model.folder)
    expected = model.tag(song)
    content = song.read_bytes()
    waveform = audio.read(song, sample_rate=RATE)
    for source, name in (
        (content, "bytes"),
        (io.BytesIO(content), "file"),
        ((waveform.samples, RATE), "waveform"),
        (waveform, "waveform"),
    ):
        tagging = model.tag(source)
        np.testing.assert_array_equal(tagging.scores, expected.scores)
        assert (tagging.source, tagging.duration) == (name, expected.duration)


def test_damage_is_a_warning_of_the_tagging(song, cp_model: Exported):
    content = song.read_bytes()
    assert tagger.load(cp_model.folder).tag(content).warnings == ()
    tagging = tagger.load(cp_model.folder).tag(content[: len(content) * 3 // 4])
    assert len(tagging.warnings) >= 1
    assert tagging.to_dict()["warnings"] == list(tagging.warnings)


class Upload:
    """An upload of a web framework: reading is a coroutine."""

    async def read(self, size: int = -1) -> bytes:
        await asyncio.sleep(0)
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")


class FailingFile(io.BytesIO):
    """A file in a damaged archive: reading raises another error after the first bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size and self.tell() > 0:
            raise EOFError("the end of the archive is missing")
        return super().read(min(size or 0, 100))


class RawFile(io.RawIOBase):
    """A raw file: it may read less than requested, and `seek` returns None."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(memoryview(buffer)[:1000])

    def seek(self, *arguments: int) -> None:
        self._file.seek(*arguments)

    def tell(self) -> int:
        return self._file.tell()


def test_raw_files_are_read_to_their_end(song):
    np.testing.assert_array_equal(
        audio.read(RawFile(song.read_bytes()), sample_rate=16_000).samples, audio.read(song, sample_rate=16_000).samples
    )


def test_strided_bytes_are_read(song):
    doubled = np.repeat(np.frombuffer(song.read_bytes(), np.uint8), 2)
    assert audio.duration(memoryview(doubled)[::2]) == 4.0


INVALID_SOURCES = f"""
import asyncio, io, json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sources import FailingFile, Pipe, Upload
import moodfield
from moodfield.errors import AudioError

closed = io.BytesIO(b"x")
closed.close()
ones = np.ones(44_100, np.float32)
sources = [
    None, 7, 3.5, ["a.mp3"], object(), io.StringIO("text"), closed, Upload(), Pipe(b"x" * 100), (), (ones,),
    (ones, "44100"), (ones, None), (ones, 44_100.5), (ones, 44_100, 2), (ones, 0), (ones.astype(complex), 44_100),
    (np.ones((100, 100), np.float32), 44_100), (np.ones((2, 2, 44_100), np.float32), 44_100), ([0.1] * 44_100, 44_100),
    (ones[:0], 44_100), (np.zeros((0, 2)), 44_100), (np.zeros((2, 0)), 44_100), FailingFile(b"RIFF" + bytes(9_000)),
    (np.array(["a"]), 44_100), (np.float32(1), 44_100), (ones * np.nan, 44_100), (ones, 44_100), b"",
    {{"path": "a.mp3"}},
]
errors = []
for _, result in moodfield.load(sys.argv[1]).tag_many(sources):
    errors.append([result.reason, str(result)] if isinstance(result, AudioError) else None)
print(json.dumps(errors))
"""


def test_other_sources_give_errors_and_the_rest_is_tagged(cp_model: Exported):
    """In a subprocess without the type checks of the tests."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", INVALID_SOURCES, cp_model.folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    errors = json.loads(process.stdout)
    reasons = [reason for reason, _ in errors]
    assert reasons == (
        ["bad-source"] * 15 + ["bad-rate"] + ["not-samples"] * 3 + ["bad-source"]
        + ["not-samples"] * 3 + ["unreadable"]
        + ["not-samples", "bad-source", "not-finite", "silent", "empty", "bad-source"]
    )  # fmt: skip
    assert all("expected" in message and "\n" not in message for _, message in errors)


def test_tag_many_takes_sources_of_every_kind(song, cp_model: Exported):
    sources = [song, song.read_bytes(), (models.music(2).samples, RATE), b"no music" * 100]
    results = [result for _, result in tagger.load(cp_model.folder).tag_many(sources)]
    assert [isinstance(result, AudioError) for result in results] == [False, False, False, True]
