"""Damaged files of every format, each read in a child process within limits.

    python benchmarks/fuzz.py [--count 5000] [--first 0]

Mutation number N of a format is the same on every machine. Prints a table, and exits with 1 if a child crashed,
was killed, wrote to standard error, raised anything but `AudioError`, or exceeded its limits.
"""

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile as sf

from moodfield import audio
from moodfield.errors import AudioError

SECONDS, MEGABYTES = 10, 512
"""limits of CPU time and memory of a child"""
STUCK = 60
"""seconds after which a waiting child is killed"""
RATE = 22_050
LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"), "aiff": ("AIFF", "PCM_16"),
}  # fmt: skip
FFMPEG = {
    "m4a": ("ipod", "aac"),
    "oga": ("ogg", "flac"),
    "aac": ("adts", "aac"),
    "wma": ("asf", "wmav2"),
    "mp2": ("mp2", "mp2"),
    "mpg": ("mpeg", "mp2"),
}
KINDS = (*LIBSNDFILE, *FFMPEG)
NUMBERS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x01")
"""bytes that are written over lengths in headers"""


def music(seconds: float, rate: int) -> np.ndarray:
    """A tone in noise, in two channels."""
    clock = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(7).standard_normal((clock.size, 2))
    return (0.3 * np.sin(2 * np.pi * 440 * clock)[:, None] + 0.02 * noise).astype(np.float32)


def sample(kind: str) -> bytes:
    """An undamaged file of a format."""
    file = io.BytesIO()
    if kind in LIBSNDFILE:
        form, subtype = LIBSNDFILE[kind]
        rate = 48_000 if kind == "opus" else RATE
        with sf.SoundFile(file, "w", rate, 2, format=form, subtype=subtype) as sound:
            samples = music(1.6, rate)
            for start in range(0, len(samples), 2**14):
                sound.write(samples[start : start + 2**14])
        return file.getvalue()
    form, codec = FFMPEG[kind]
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        stream.bit_rate = 96_000
        planar = stream.codec_context.codec.audio_formats[0].name
        samples = music(1.6, RATE)
        size = 1152 if codec == "mp2" else 1024
        for start in range(0, len(samples), size):
            block = samples[start : start + size]
            block = block.T if planar == "fltp" else np.rint(block * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format=planar, layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def mutated(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The content, damaged in one to three of nine ways; `other` is what may be joined to it."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 4)):
        size = max(len(damaged), 2)
        where, reach = int(random.integers(size)), int(random.integers(1, 2_000))
        match random.integers(9):
            case 0:
                del damaged[max(where, 1) :]
            case 1 | 2:
                for place in random.integers(
                    min(size, 600) if random.integers(2) else size, size=random.integers(1, 30)
                ):
                    damaged[int(place) : int(place) + 1] = random.bytes(1)
            case 3:
                damaged[where:where] = random.bytes(reach)
            case 4:
                damaged[where : where + reach] = bytes(min(reach, size - where))
            case 5:
                damaged[where : where + 4] = NUMBERS[random.integers(len(NUMBERS))]
            case 6:
                place = int(random.integers(min(size, 200)))
                damaged[place : place + 4] = NUMBERS[random.integers(len(NUMBERS))]
            case 7:
                del damaged[where : where + reach]
            case _:
                damaged += other if random.integers(2) else damaged[where:]
    return bytes(damaged)


@dataclass(frozen=True)
class Outcome:
    """What became of one file in its child."""

    word: str
    """`read`, the reason of a refusal, or what went wrong"""
    bad: bool
    seconds: float
    megabytes: float


def tried(path: Path) -> Outcome:
    """Read a file in a child process of its own."""
    out, errors = os.pipe(), tempfile.TemporaryFile()  # noqa: SIM115 - closed with the loop's next file
    child = os.fork()
    if not child:
        os.dup2(errors.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(STUCK)
        try:
            found = audio.read(path, sample_rate=16_000)
            word = "read" if np.isfinite(found.samples).all() and found.duration >= 0.99 else "! bad samples"
        except AudioError as error:
            word = error.reason if error.reason in audio.REASONS else f"! reason {error.reason}"
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            word = f"! {type(error).__name__}: {error}"
        os.write(out[1], word.encode(errors="replace")[:500])
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    os.close(out[1])
    with os.fdopen(out[0], "rb") as pipe:
        word = pipe.read().decode(errors="replace")
    errors.seek(0)
    written = errors.read(200)
    errors.close()
    if status:
        word = f"! {signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else 'ended badly'}"
    elif written:
        word = f"! wrote {written!r}"
    seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return Outcome(word, word.startswith("!") or seconds > SECONDS or megabytes > MEGABYTES, seconds, megabytes)


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=5_000, help="mutations, spread over all kinds")
    options.add_argument("--first", type=int, default=0, help="the number of the first mutation of each kind")
    chosen = options.parse_args()
    import logging

    logging.getLogger("moodfield").addHandler(logging.NullHandler())
    logging.getLogger("moodfield").propagate = False
    samples = {kind: sample(kind) for kind in KINDS}
    bad = 0
    began = time.monotonic()
    print("## Damaged files, each in a child process\n")
    print("| format | mutations | read | errors | max. CPU, s | max. memory, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(KINDS):
            outcomes = []
            for seed in range(chosen.first, chosen.first + -(-chosen.count // len(KINDS))):
                random = np.random.default_rng([number, seed])
                path = Path(folder) / f"damaged.{kind}"
                path.write_bytes(mutated(samples[kind], samples[KINDS[random.integers(len(KINDS))]], random))
                outcomes.append(outcome := tried(path))
                if outcome.bad:
                    bad += 1
                    print(f"{kind} {seed}: {outcome}", file=sys.stderr)
            words = Counter(outcome.word for outcome in outcomes)
            errors = ", ".join(f"{count} {word}" for word, count in words.most_common() if word != "read")
            seconds = max(outcome.seconds for outcome in outcomes)
            megabytes = max(outcome.megabytes for outcome in outcomes)
            print(f"| {kind} | {len(outcomes)} | {words['read']} | {errors} | {seconds:.1f} | {megabytes:.0f} |")
    print(
        f"\n{bad} of them crashed, were killed, wrote to the terminal or exceeded the limits "
        f"({SECONDS} s, {MEGABYTES} MB); {time.monotonic() - began:.0f} s in total."
    )
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
