"""What can be tagged: paths, bytes, file objects, samples with their rate; anything else is one clear refusal."""

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


def test_bytes_and_file_objects_are_what_their_file_is(song, tmp_path):
    wanted = audio.read(song, sample_rate=16_000).samples
    content = song.read_bytes()
    with song.open("rb") as opened, tempfile.SpooledTemporaryFile(max_size=10) as spooled:
        spooled.write(content)
        for source in (content, bytearray(content), memoryview(content), io.BytesIO(content), opened, spooled):
            np.testing.assert_array_equal(audio.read(source, sample_rate=16_000).samples, wanted)


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
    "given",
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
def test_samples_of_several_channels_are_averaged(given, rate):
    found = audio.read((given, rate), sample_rate=16_000).samples
    wanted = soxr.resample(samples().mean(axis=1), RATE, 16_000, quality="HQ")
    assert np.abs(found - wanted).max() < (2**-6 if given.dtype == np.uint8 else 2**-14)


def test_samples_of_one_channel():
    mono = models.music(3)
    np.testing.assert_array_equal(audio.read((mono.samples, RATE), sample_rate=RATE).samples, mono.samples)
    np.testing.assert_array_equal(audio.read((mono.samples[None], RATE), sample_rate=RATE).samples, mono.samples)


def test_all_sources_of_one_song_have_one_tagging(song, cp_model: Exported):
    model = tagger.load(cp_model.folder)
    wanted = model.tag(song)
    content = song.read_bytes()
    waveform = audio.read(song, sample_rate=RATE)
    for source, name in (
        (content, "bytes"),
        (io.BytesIO(content), "file"),
        ((waveform.samples, RATE), "waveform"),
        (waveform, "waveform"),
    ):
        found = model.tag(source)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        assert (found.source, found.duration) == (name, wanted.duration)


def test_damage_is_in_the_tagging(song, cp_model: Exported):
    content = song.read_bytes()
    assert tagger.load(cp_model.folder).tag(content).warnings == ()
    found = tagger.load(cp_model.folder).tag(content[: len(content) * 3 // 4])
    assert len(found.warnings) >= 1
    assert found.to_dict()["warnings"] == list(found.warnings)


class Upload:
    """As web frameworks have them: reading is a coroutine."""

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


class Broken(io.BytesIO):
    """As a damaged archive: some error of its own, further on."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size and self.tell() > 0:
            raise EOFError("the end of the archive is missing")
        return super().read(min(size or 0, 100))


class Slow(io.RawIOBase):
    """A raw file, which may read less than it is asked for, and whose seek returns nothing."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(memoryview(buffer)[:1000])

    def seek(self, *where: int) -> None:
        self._file.seek(*where)

    def tell(self) -> int:
        return self._file.tell()


def test_raw_files_are_read_to_their_end(song):
    np.testing.assert_array_equal(
        audio.read(Slow(song.read_bytes()), sample_rate=16_000).samples, audio.read(song, sample_rate=16_000).samples
    )


def test_strided_bytes_are_a_source_too(song):
    twice = np.repeat(np.frombuffer(song.read_bytes(), np.uint8), 2)
    assert audio.duration(memoryview(twice)[::2]) == 4.0


REFUSALS = f"""
import asyncio, io, json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sources import Broken, Pipe, Upload
import moodfield
from moodfield.errors import AudioError

closed = io.BytesIO(b"x")
closed.close()
ones = np.ones(44_100, np.float32)
sources = [
    None, 7, 3.5, ["a.mp3"], object(), io.StringIO("text"), closed, Upload(), Pipe(b"x" * 100), (), (ones,),
    (ones, "44100"), (ones, None), (ones, 44_100.5), (ones, 44_100, 2), (ones, 0), (ones.astype(complex), 44_100),
    (np.ones((100, 100), np.float32), 44_100), (np.ones((2, 2, 44_100), np.float32), 44_100), ([0.1] * 44_100, 44_100),
    (ones[:0], 44_100), (np.zeros((0, 2)), 44_100), (np.zeros((2, 0)), 44_100), Broken(b"RIFF" + bytes(9_000)),
    (np.array(["a"]), 44_100), (np.float32(1), 44_100), (ones * np.nan, 44_100), (ones, 44_100), b"",
    {{"path": "a.mp3"}},
]
found = []
for _, result in moodfield.load(sys.argv[1]).tag_many(sources):
    found.append([result.reason, str(result)] if isinstance(result, AudioError) else None)
print(json.dumps(found))
"""


def test_anything_else_is_one_clear_refusal_that_stops_nothing(cp_model: Exported):
    """By itself, since these tests check types even before the module does."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REFUSALS, cp_model.folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    reasons = [reason for reason, _ in found]
    assert reasons == (
        ["bad-source"] * 15 + ["bad-rate"] + ["not-samples"] * 3 + ["bad-source"]
        + ["not-samples"] * 3 + ["unreadable"]
        + ["not-samples", "bad-source", "not-finite", "silent", "empty", "bad-source"]
    )  # fmt: skip
    assert all("expected" in message and "\n" not in message for _, message in found)


def test_many_may_be_of_every_kind(song, cp_model: Exported):
    sources = [song, song.read_bytes(), (models.music(2).samples, RATE), b"no music" * 100]
    results = [result for _, result in tagger.load(cp_model.folder).tag_many(sources)]
    assert [isinstance(result, AudioError) for result in results] == [False, False, False, True]
