"""Containers: joined streams, wrong lengths in headers, damaged and truncated files."""

import io
import logging
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from moodfield import audio
from moodfield.decoding import byte_ranges, decoders, mpeg, ogg, sniffing
from moodfield.decoding.byte_ranges import Pieces
from moodfield.errors import AudioError

RATE = 22_050


def music(seconds: float, *, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (300 + 50 * seed) * time)
    noise = np.random.default_rng(seed).standard_normal((time.size, channels))
    return (tone[:, None] * (1 - 0.3 * np.arange(channels)) + 0.02 * noise).astype(np.float32)


def encoded(
    kind: str, samples: np.ndarray, *, rate: int = RATE, subtype: str | None = None, endian: str | None = None
) -> bytes:
    """The bytes of a file, by libsndfile; in pieces, since libvorbis crashes on long ones."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", rate, samples.shape[1], format=kind, subtype=subtype, endian=endian) as sound:
        for start in range(0, len(samples), 2**14):
            sound.write(samples[start : start + 2**14])
    return file.getvalue()


def by_pyav(container: str, codec: str, samples: np.ndarray, *, rate: int = RATE, bitrate: int = 96_000) -> bytes:
    """The bytes of a file of one channel, by FFmpeg."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bitrate
        kind = stream.codec_context.codec.audio_formats[0].name
        size = 1152 if codec == "mp2" else 1024
        for start in range(0, len(samples), size):
            block = samples[start : start + size].T
            block = np.ascontiguousarray(block if kind == "fltp" else np.rint(block * 32767).astype(np.int16))
            frame = av.AudioFrame.from_ndarray(block, format=kind, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return file.getvalue()


def vorbis(seconds: float, **options: int) -> bytes:
    return encoded("OGG", music(seconds, **options), rate=options.get("rate", RATE), subtype="VORBIS")


def opus(seconds: float, **options: int) -> bytes:
    return encoded("OGG", music(seconds, rate=48_000, **options), rate=48_000, subtype="OPUS")


def ogg_flac(seconds: float, *, rate: int = RATE, **options: int) -> bytes:
    return by_pyav("ogg", "flac", music(seconds, rate=rate, **options), rate=rate)


def mp3(seconds: float, *, rate: int = 44_100, **options: int) -> bytes:
    return encoded("MP3", music(seconds, rate=rate, **options), rate=rate)


def flac(seconds: float, *, rate: int = RATE, **options: int) -> bytes:
    return encoded("FLAC", music(seconds, rate=rate, **options), rate=rate)


def wav(seconds: float, *, rate: int = RATE, **options: int) -> bytes:
    return encoded("WAV", music(seconds, rate=rate, **options), rate=rate)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.WARNING, logger="moodfield"):
        yield lambda: [record.getMessage() for record in caplog.records]


# ---------------------------------------------------------------- streams that follow each other


@pytest.mark.parametrize(
    "streams",
    [
        [vorbis(3), vorbis(4, seed=1)],
        [vorbis(3), vorbis(2, rate=44_100, channels=2), vorbis(2, rate=8_000)],
        [opus(3), opus(4, channels=2)],
        [vorbis(3), opus(2)],
    ],
    ids=["vorbis", "vorbis of other rates", "opus", "vorbis, opus"],
)
def test_chained_ogg_is_decoded_to_its_end(streams, logged):
    total = sum(audio.duration(stream) for stream in streams)
    assert audio.duration(b"".join(streams)) == pytest.approx(total, abs=0.01)
    assert total == pytest.approx(round(total), abs=0.05)
    assert logged() == []


def test_ogg_flac_is_decoded_by_libsndfile_chained_and_without_pyav(monkeypatch):
    content = ogg_flac(3) + ogg_flac(2, rate=16_000)
    monkeypatch.setitem(sys.modules, "av", None)
    assert audio.duration(content) == pytest.approx(5.0, abs=1e-6)
    samples = audio.read(content, sample_rate=RATE).samples[: 3 * RATE]
    assert np.abs(samples - music(3)[:, 0]).max() < 2.0**-14


def test_each_stream_of_a_chain_has_its_own_rate():
    first, second = music(3), music(3, rate=44_100, channels=2, seed=3)
    content = encoded("OGG", first, subtype="VORBIS") + encoded("OGG", second, rate=44_100, subtype="VORBIS")
    samples = audio.read(content, sample_rate=RATE).samples
    separate = [audio.read(encoded("OGG", first, subtype="VORBIS"), sample_rate=RATE).samples]
    separate += [audio.read(encoded("OGG", second, rate=44_100, subtype="VORBIS"), sample_rate=RATE).samples]
    np.testing.assert_allclose(samples, np.concatenate(separate), atol=1e-6)


def test_other_streams_beside_the_music_are_left_out():
    page = b"OggS\x00\x02" + bytes(8) + b"\x77\x77\x00\x00" + bytes(8) + b"\x01\x07\x80theora"
    checksum = crc32_of_ogg(page)
    page = page[:22] + struct.pack("<I", checksum) + page[26:]
    assert audio.duration(page + vorbis(3)) == pytest.approx(3.0, abs=0.01)


def crc32_of_ogg(page: bytes) -> int:
    """As in RFC 3533, bit by bit: polynomial 0x04C11DB7, from 0, most significant bit first."""
    register = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


@pytest.mark.parametrize(
    "between", [b"", b"rubbish, some bytes of it", b"TAG" + bytes(125), b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)]
)
@pytest.mark.parametrize("second", [{}, {"rate": 48_000}, {"channels": 2}, {"rate": 16_000}])
def test_joined_mp3s_are_decoded_to_the_end(between, second, logged):
    content = mp3(3) + between + mp3(4, **second)
    assert audio.duration(content) == pytest.approx(7.0, abs=0.1)
    assert len(logged()) == (1 if b"rubbish" in between else 0)


def test_joined_mp3s_without_tables_of_lengths_are_one_stream():
    parts = [without_table(mp3(3)), without_table(mp3(4))]
    with io.BytesIO(b"".join(parts)) as file:
        (stream,) = sniffing.streams(file)
    assert stream.pieces[1:] == ((0, sum(map(len, parts))),)
    assert audio.duration(b"".join(parts)) == pytest.approx(7.0, abs=0.2)


@pytest.mark.parametrize("rate", [44_100, 22_050, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_length_does_not_depend_on_the_first_bitrate(rate, channels):
    content = mp3(7, rate=rate, channels=channels)
    tableless = without_table(content)
    samples = audio.read(tableless, sample_rate=rate).samples
    assert len(samples) / rate == pytest.approx(7.0, abs=0.25)
    expected = audio.read(content, sample_rate=rate).samples
    lag = (
        np.correlate(
            samples[: len(expected)][10_000 : 10_000 + 4 * rate // 2], expected[12_400 : 12_400 + rate]
        ).argmax()
        - 2_400
    )
    assert np.corrcoef(samples[12_400 + lag :][:rate], expected[12_400:][:rate])[0, 1] > 0.99


def test_a_table_of_frauenhofer_is_replaced():
    content = without_table(mp3(7))
    size = content.index(content[:2], 4)
    frame = bytearray(content[:size])
    frame[4:] = bytes(size - 4)
    frame[36:40] = b"VBRI"
    assert audio.duration(bytes(frame) + content) == pytest.approx(7.0, abs=0.2)


def without_table(content: bytes) -> bytes:
    """An MP3 without its first frame, which counts the others."""
    position = max(content.find(b"Xing"), content.find(b"Info"))
    assert position > 0
    second_frame = re.compile(re.escape(content[:2])).search(content, position)
    assert second_frame
    return content[second_frame.start() :]


@pytest.mark.parametrize("count", [0, 1, 50, 10**9, 2**32 - 1])
def test_a_wrong_frame_count_in_an_mp3_is_ignored(count):
    content = bytearray(mp3(7))
    position = max(content.find(b"Xing"), content.find(b"Info"))
    content[position + 8 : position + 12] = struct.pack(">I", count)
    assert audio.duration(bytes(content)) == pytest.approx(7.0, abs=0.1)


def test_a_correct_table_trims_encoder_padding():
    assert audio.duration(mp3(7)) == 7.0


@pytest.mark.parametrize("second", [{}, {"rate": 44_100}, {"channels": 2}])
@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)])
def test_joined_flacs_are_decoded_to_the_end(second, between, logged):
    assert audio.duration(flac(3) + between + flac(2, **second)) == pytest.approx(5.0, abs=1e-6)


# ---------------------------------------------------------------- lengths and tables that are wrong


def with_samples(content: bytes, samples: int) -> bytes:
    """A FLAC file whose header states this number of samples."""
    changed = bytearray(content)
    changed[21] = changed[21] & 0xF0 | samples >> 32
    changed[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(changed)


@pytest.mark.parametrize("samples", [0, 1, RATE, 2**36 - 1])
def test_a_wrong_length_in_a_flac_header_is_ignored(samples):
    assert audio.read(with_samples(flac(3), samples), sample_rate=RATE).duration == 3.0


def test_a_truncated_flac_is_decoded_and_logged(logged):
    content = flac(8)
    assert 3.0 < audio.duration(content[: len(content) // 2]) < 4.5
    assert any("cut off" in line or "damaged" in line for line in logged())


def with_block(content: bytes, kind: int, block: bytes, *, stated: int | None = None) -> bytes:
    """A FLAC file with another block of metadata after the first one."""
    length = len(block) if stated is None else stated
    return content[:4] + b"\x00" + content[5:42] + bytes([kind]) + length.to_bytes(3, "big") + block + content[42:]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: with_block(
            content, 3, struct.pack(">QQH", 0, 2**40, 4096) + struct.pack(">QQH", 5000, 9, 4096)
        ),
        lambda content: with_block(content, 1, bytes(10), stated=2**24 - 1),
        lambda content: with_block(content, 6, b"picture" * 9_000),
        lambda content: b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257) + content,
        lambda content: content + b"TAG" + bytes(125),
        lambda content: content + b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8),
    ],
    ids=["seek table", "length of a block", "picture", "ID3v2", "ID3v1", "APE tag"],
)
def test_flac_with_odd_metadata(change, logged):
    content = flac(3)
    content = content[:4] + (b"\x80" if content[4] & 0x80 else content[4:5]) + content[5:]
    assert audio.read(change(content), sample_rate=RATE).duration == pytest.approx(3.0, abs=1e-6)
    assert [line for line in logged() if "cut off" in line] == []


def riff(content: bytes, *, whole: int, data: int) -> bytes:
    """A WAV whose header states other lengths."""
    changed = bytearray(content)
    position = changed.index(b"data")
    changed[4:8], changed[position + 4 : position + 8] = struct.pack("<I", whole), struct.pack("<I", data)
    return bytes(changed)


@pytest.mark.parametrize(
    ("whole", "data"), [(0, 0), (36, 0), (2**32 - 1, 2**32 - 1), (10**6, 10**9), (36 + 44_100, 44_100), (0, 44_100)]
)
def test_a_wav_of_a_killed_recorder_has_data_to_its_end(whole, data):
    content = riff(wav(10), whole=whole, data=data)
    np.testing.assert_array_equal(
        audio.read(content, sample_rate=RATE).samples, audio.read(wav(10), sample_rate=RATE).samples
    )


NOISE = np.random.default_rng(5).bytes(200_000)


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + struct.pack("<I", len(NOISE)) + NOISE,
        b"\xa9abc" + struct.pack("<I", len(NOISE)) + NOISE,
        b"id3 " + struct.pack("<I", 2**31) + NOISE,
        b"ID3\x04\x00\x00\x00\x0c\x1a\x40" + NOISE,
        b"TAG" + NOISE,
        bytes(200_000),
        b"short",
    ],
    ids=["chunk", "odd name", "odd length", "ID3", "ID3v1", "zeros", "rubbish"],
)
@pytest.mark.parametrize("odd", [False, True])
def test_data_after_the_samples_is_ignored(tail, odd):
    content = encoded("WAV", music(3), subtype="PCM_U8" if odd else "PCM_16")
    if odd:
        content = riff(content, whole=0, data=3 * RATE - 1)[: 44 + 3 * RATE - 1]
    assert audio.duration(content + tail) == pytest.approx(3.0, abs=1e-4)


def test_joined_wavs_are_decoded_to_the_end():
    assert audio.duration(wav(3) + wav(2, rate=44_100) + wav(1, channels=2)) == 6.0


def test_a_big_endian_wav_of_a_killed_recorder():
    content = bytearray(encoded("WAV", music(5), endian="BIG"))
    assert content[:4] == b"RIFX"
    position = content.index(b"data")
    content[4:8] = content[position + 4 : position + 8] = bytes(4)
    assert audio.duration(bytes(content)) == 5.0


def test_a_wav_beyond_four_gigabytes_has_its_length_in_64_bits(tmp_path):
    path = tmp_path / "long.wav"
    head = riff(encoded("WAV", music(1, channels=2), rate=96_000), whole=2**32 - 1, data=2**32 - 1)[:44]
    with path.open("wb") as file:
        file.write(head)
        file.truncate(5 * 2**30)
    with path.open("rb") as file:
        (stream,) = sniffing.streams(file)
        with sf.SoundFile(Pieces(file, stream.pieces)) as sound:
            assert sound.frames == (5 * 2**30 - 44) // 4


@pytest.mark.parametrize("make", [wav, mp3])
def test_half_of_a_file_is_logged_as_truncated(make, logged):
    content = make(20)
    assert audio.duration(content[: len(content) // 2]) == pytest.approx(10, abs=0.5)
    assert ["cut off" in line for line in logged()] == [True]


def test_an_rf64_of_a_killed_recorder():
    content = bytearray(encoded("RF64", music(5)))
    position = content.index(b"ds64")
    content[position + 8 : position + 32] = bytes(24)
    assert audio.duration(bytes(content)) == 5.0


@pytest.mark.parametrize("make", [vorbis, opus])
@pytest.mark.parametrize("position", [0, 100, 2**40, 2**63 - 1])
def test_a_wrong_position_of_the_last_ogg_page_is_ignored(make, position):
    content = bytearray(make(8))
    last = content.rindex(b"OggS\x00")
    content[last + 6 : last + 14] = struct.pack("<Q", position)
    content[last + 22 : last + 26] = struct.pack("<I", crc32_of_ogg(bytes(content[last:])))
    assert audio.duration(bytes(content)) == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize("make", [vorbis, opus])
def test_a_recording_of_a_stream_that_had_begun_before(make):
    content = bytearray(make(8))
    starts = [match.start() for match in re.finditer(b"OggS\x00", content)]
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        (position,) = struct.unpack("<Q", content[start + 6 : start + 14])
        if position:
            content[start + 6 : start + 14] = struct.pack("<Q", position + 10**7)
        content[start + 22 : start + 26] = struct.pack("<I", crc32_of_ogg(bytes(content[start:end])))
    assert audio.duration(bytes(content)) == pytest.approx(8.0, abs=0.1)


def test_an_au_file_that_states_no_length():
    content = bytearray(encoded("AU", music(5)))
    content[8:12] = bytes(4)
    assert audio.duration(bytes(content)) == 5.0


# ---------------------------------------------------------------- damage


def test_a_damaged_ogg_page_is_left_out_and_reported(logged):
    content = bytearray(vorbis(20))
    starts = [match.start() for match in re.finditer(b"OggS\x00", content)]
    content[starts[4] + 200] ^= 1
    complete, match = audio.duration(vorbis(20)), audio.duration(bytes(content))
    assert complete - 2.5 < match < complete - 0.05
    assert len(logged()) == 1
    assert str(starts[4]) in logged()[0]


def test_every_ogg_page_of_libsndfile_has_the_checksum_that_is_computed():
    content = vorbis(3)
    starts = [match.start() for match in re.finditer(b"OggS\x00", content)]
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        assert crc32_of_ogg(content[start:end]) == struct.unpack("<I", content[start + 22 : start + 26])[0]


@pytest.mark.parametrize("cut", [100, 5_000])
def test_a_truncated_ogg_file_is_logged(cut, logged):
    assert audio.duration(vorbis(20)[:-cut]) > 10
    assert len(logged()) == 1
    assert "cut off" in logged()[0]


def test_damage_in_an_mp3_skips_some_frames(logged):
    content = bytearray(mp3(8))
    content[len(content) // 2 :][:0] = b""
    middle = len(content) // 2
    content[middle : middle + 383] = bytes(383)
    assert audio.duration(bytes(content)) == pytest.approx(8.0, abs=0.15)
    assert "MPEG frames" in "".join(logged())


def damaged_ogg(count: int) -> bytes:
    """Empty Ogg pages of a stream of their own, each with a damaged one behind it."""
    page = b"OggS\0".ljust(27, b"\0")
    intact = page[:22] + struct.pack("<I", crc32_of_ogg(page)) + page[26:]
    return (intact + page) * count


def interrupted_mpeg(count: int) -> bytes:
    """Silent frames, with a byte after every three."""
    frame = b"\xff\xf3\x14\xc0".ljust(24, b"\0")  # layer III, 8 kbit/s, 24 kHz, mono
    return (3 * frame + b"\0") * count


def test_the_search_ends_after_many_damaged_ogg_pages(monkeypatch):
    monkeypatch.setattr(ogg, "MAX_BAD", 50)
    content = damaged_ogg(ogg.MAX_BAD + 100)
    [stream] = sniffing.streams(io.BytesIO(content))
    assert len(stream.faults) == ogg.MAX_BAD + 2
    assert str(99 * 54) in stream.faults[-1]


def test_the_search_ends_after_many_gaps_between_mpeg_frames(monkeypatch):
    monkeypatch.setattr(mpeg, "MAX_GAPS", 50)
    content = interrupted_mpeg(mpeg.MAX_GAPS + 100)
    [stream] = sniffing.streams(io.BytesIO(content))
    assert len(stream.faults) == mpeg.MAX_GAPS + 1
    assert str(99 * 73 + 1) in stream.faults[-1]


@pytest.mark.parametrize("packet", [0, 1, 40])
@pytest.mark.parametrize("container", ["ipod", "adts"])
def test_an_undecodable_packet_is_skipped(packet, container, logged):
    content = bytearray(by_pyav(container, "aac", music(3, rate=44_100), rate=44_100))
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(bytes(content))) as file:
        packets = [(packet_.pos, packet_.size, bytes(packet_)) for packet_ in file.demux(audio=0) if packet_.size]
    _, size, data = packets[packet]
    position = content.index(data)
    head = 0 if container == "ipod" else (7 if size > 7 and data[0] == 0xFF else 0)
    content[position + head : position + size] = b"\xff" * (size - head)
    assert audio.duration(bytes(content)) == pytest.approx(3.0, abs=0.15)
    assert "damaged" in "".join(logged())


def test_planes_beyond_those_of_the_layout_are_not_read():
    """PyAV may list planes beyond those of FFmpeg, with invalid addresses."""
    av = pytest.importorskip("av")
    frame = av.AudioFrame.from_ndarray(np.ones((2, 100), np.float32), format="fltp", layout="stereo")

    class ExtraPlane:
        layout, format, samples = frame.layout, frame.format, frame.samples
        planes = (*frame.planes, None)

    assert decoders._frame_samples(ExtraPlane()).shape == (100, 2)


@pytest.mark.parametrize("bitrate", [64_000, 128_000, 320_000])
@pytest.mark.parametrize("container", ["mpeg", "mpegts"])
def test_a_program_stream_is_no_bare_mpeg_audio(container, bitrate, logged):
    content = by_pyav(container, "mp2", music(5, rate=48_000), rate=48_000, bitrate=bitrate)
    assert audio.duration(content) == pytest.approx(5.0, abs=0.1)
    assert logged() == []


@pytest.mark.parametrize("rates", [(384_000, 64_000), (64_000, 192_000), (128_000, 128_000)])
def test_layer_ii_of_changing_bitrates_is_decoded_to_its_end(rates, logged):
    parts = [by_pyav("mp2", "mp2", music(5, rate=48_000), rate=48_000, bitrate=bitrate) for bitrate in rates]
    assert audio.duration(b"".join(parts)) == pytest.approx(10.0, abs=0.2)
    assert logged() == []


def test_a_flac_that_lacks_frames_is_logged(logged):
    content = flac(8)
    assert 4 < audio.duration(content[:40_000] + content[90_000:]) < 8.1
    assert logged()


def test_many_faults_are_logged_in_few_lines(logged):
    content = bytearray(mp3(60))
    for start in range(5_000, len(content), 5_000):
        content[start : start + 60] = bytes(60)
    assert audio.duration(bytes(content)) > 50
    assert len(logged()) == decoders.MAX_FAULTS + 1


@pytest.mark.parametrize("make", [vorbis, opus])
def test_positions_of_ogg_pages_that_go_back_or_are_missing(make):
    for back in (True, False):
        content = bytearray(make(20))
        starts = [match.start() for match in re.finditer(b"OggS\x00", content)]
        for count, (start, end) in enumerate(zip(starts, [*starts[1:], len(content)], strict=True)):
            (position,) = struct.unpack("<Q", content[start + 6 : start + 14])
            changed = max(position - 100_000, 0) if back and count > 4 else position if back or count < 2 else 2**64 - 1
            content[start + 6 : start + 14] = struct.pack("<Q", changed)
            content[start + 22 : start + 26] = struct.pack("<I", crc32_of_ogg(bytes(content[start:end])))
        assert audio.duration(bytes(content)) == pytest.approx(20.0, abs=0.2)


def test_without_a_null_device_decoding_works(tmp_path):
    path = tmp_path / "x.mp3"
    content = bytearray(mp3(8))
    for start in range(5_000, len(content), 3_000):
        content[start : start + 120] = np.random.default_rng(start).bytes(120)
    path.write_bytes(content)
    program = (
        "import ctypes, sys; from unittest import mock; real = ctypes.CDLL\n"
        "ctypes.CDLL = lambda name: mock.Mock(fopen=mock.Mock(return_value=None))\n"
        "from moodfield.decoding import c_stderr; ctypes.CDLL = real; assert c_stderr.SUPPRESSED._stream is None\n"
        "from moodfield import audio; print(audio.duration(sys.argv[1]))"
    )
    process = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) > 7


SIGNAL_PROGRAM = """
import random, signal, sys, time
from moodfield import audio
class Stop(BaseException): pass
came = []
def stop(*_):
    came.append(1)
    raise Stop
signal.signal(signal.SIGALRM, stop)
random.seed(0)
audio.duration(sys.argv[1])
took = time.perf_counter()
audio.duration(sys.argv[1])
took = time.perf_counter() - took
raised = 0
for _ in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, took * 0.8))
        audio.duration(sys.argv[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        raised += 1
print(len(came), raised)
"""


@pytest.mark.parametrize(
    "kind", ["ogg", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mp3", "flac", "m4a"))]
)
def test_signals_at_random_times_are_not_lost(kind, tmp_path):
    content = by_pyav("ipod", "aac", music(60, rate=44_100), rate=44_100) if kind == "m4a" else None
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content or {"ogg": vorbis, "mp3": mp3, "flac": flac}[kind](120))
    process = subprocess.run([sys.executable, "-c", SIGNAL_PROGRAM, path], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    n_signals, n_raised = map(int, process.stdout.split())
    assert n_signals == n_raised > 10


def test_a_transport_stream():
    assert audio.duration(by_pyav("mpegts", "aac", music(3, rate=44_100), rate=44_100)) == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("words", [(0x7FFE, 0x8001), (0x1FFF, 0xE800), (0xF872, 0x4E1F)])
@pytest.mark.parametrize("offset", [0, 1, 20_000])
def test_encoded_data_in_pcm_raises(kind, words, offset):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 200_000, dtype=np.int16)
    for start in range(offset, len(samples) - 1, 2_048):
        samples[start : start + 2] = np.array(words, np.uint16).view(np.int16)
    file = io.BytesIO()
    sf.write(file, samples.reshape(-1, 2), 44_100, format=kind.upper(), subtype="PCM_16")
    with pytest.raises(AudioError) as caught:
        audio.read(file.getvalue(), sample_rate=RATE)
    assert caught.value.reason == "encoded"


def test_loud_noise_is_no_encoded_data():
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (200_000, 2), dtype=np.int16)
    file = io.BytesIO()
    sf.write(file, samples, 44_100, format="WAV", subtype="PCM_16")
    assert audio.read(file.getvalue(), sample_rate=RATE).duration > 4


# ---------------------------------------------------------------- output of decoders, and reading


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the C library keeps its stream")
def test_libmpg123_does_not_write_to_the_terminal(tmp_path):
    content = bytearray(mp3(8))
    for start in range(5_000, len(content), 3_000):
        content[start : start + 120] = np.random.default_rng(start).bytes(120)
    path = tmp_path / "x.mp3"
    path.write_bytes(content)
    words = "import sys, soundfile; soundfile.read(sys.argv[1])"
    program = (
        "import sys; from moodfield import audio; print(audio.duration(sys.argv[1])); print('mine', file=sys.stderr)"
    )
    loud, quiet = (
        subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        for code in (words, program)
    )
    assert "mpg123" in loud.stderr or "MPEG" in loud.stderr  # without suppression it writes there
    assert float(quiet.stdout) > 7
    lines = quiet.stderr.splitlines()
    assert lines[-1] == "mine"
    assert all(line.startswith(str(path)) for line in lines[:-1])


def test_a_disk_that_fails_is_an_error_and_not_the_end_of_the_music(tmp_path):
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 200_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(AudioError) as caught:
        audio.read(Failing(wav(20)), sample_rate=RATE)
    assert caught.value.reason == "unreadable"
    assert "Input/output error" in str(caught.value)


@pytest.mark.parametrize("make", [vorbis, mp3, flac])
def test_an_interruption_while_libsndfile_reads_is_not_lost(make, capfd):
    """It may be raised in a Python callback of C code, which cannot propagate it."""

    class Interrupted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += armed
            if self.reads == 3:
                raise KeyboardInterrupt
            return super().read(size)

    armed = 0
    file = Interrupted(make(60))
    streams = sniffing.streams(file)
    armed = 1
    with pytest.raises(KeyboardInterrupt):
        list(decoders.decode(file, streams, print))
    assert capfd.readouterr().err == ""


def test_pieces_are_read_like_a_file():
    below = io.BytesIO(bytes(range(256)))
    content = b"head" + bytes(range(10, 20)) + bytes(range(200, 256)) + b"tail"
    file = Pieces(below, [b"head", (10, 20), (200, 256), b"tail"])
    assert file.read() == content
    random = np.random.default_rng(0)
    for _ in range(200):
        start, count = int(random.integers(80)), int(random.integers(80))
        assert file.seek(start) == start
        assert file.read(count) == content[start : start + count]
        assert file.tell() == min(start + count, max(start, len(content)))
    assert file.seek(-1) == -1
    assert file.seek(-4, io.SEEK_END) == len(content) - 4
    assert file.read() == b"tail"
    assert file.read(5) == b""


def test_pieces_of_pieces_are_pieces_of_the_file_below():
    content = bytes(range(256))
    lower = [(5, 50), b"between", (100, 256)]
    inside = Pieces(io.BytesIO(content), lower).read()
    upper = [(3, 48), b"more", (49, 60)]
    found = Pieces(io.BytesIO(content), byte_ranges.translate(upper, lower)).read()
    assert found == Pieces(io.BytesIO(inside), upper).read()


def test_files_on_which_others_went_wrong(data: Path):
    folder = data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"real data: {folder} is not a folder")
    wanted = {
        "chained_vorbis.ogg": 7.0, "chained_opus.opus": 7.0, "chained_ogg_flac.oga": 5.0, "cat_two_mp3.mp3": 7.08,
        "xing_half.mp3": 7.08, "rate_change.mp3": 7.09, "flac_piped.flac": 3.0, "flac_seektable_beyond.flac": 12.0,
        "flac_total_short.flac": 3.0, "riff0_data0.wav": 3.0, "dts_in_wav_long.wav": 6.1, "m4a_one_bad_packet.m4a": 3.0,
        "aac_one_bad_frame.aac": 3.0, "phase_almost.wav": 3.0, "mp3_hole_383.mp3": 2.95, "a.ts": 3.04,
        "dc_only.wav": "silent", "almost_one.wav": "too-short",
    }  # fmt: skip
    found: dict[str, float | str] = {}
    for name in wanted:
        try:
            found[name] = audio.duration(folder / name)
        except AudioError as error:
            found[name] = error.reason
    assert found == {
        name: value if isinstance(value, str) else pytest.approx(value, abs=0.1) for name, value in wanted.items()
    }
