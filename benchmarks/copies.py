"""Decisions for a file and for its copies: encoded as MP3, AAC, Opus and Vorbis, resampled, and quiet.

    python benchmarks/copies.py [NAME=MODEL …] [--per-kind 3]

Takes a minute from a fixed sample of the held-out packages of music/manifest.tsv. Prints the section *Copies* of
docs/model.md. It takes five minutes on one core; needs PyAV and the music of `make music`.
"""
# ruff: noqa: E402

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded: one core

import numpy as np
import soundfile
import soxr

import outputs
from moodfield import calibration, tagger
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import lossy_codecs, manifest
from moodfield.distillation.manifest import KINDS, Music
from moodfield.evaluation import agreement
from moodfield.tagging import Tagging

HERE = Path(__file__).parent
SECONDS = 60
"""length of an excerpt, from the middle of a track"""
SAMPLE_RATE, OPUS_RATE = 44_100, 48_000
"""sample rate of excerpts, and that of Opus, in Hz"""
RESAMPLES, CONFIDENCE = 1_000, 0.95
GOAL_COPY, GOAL = "MP3, 64 kbit/s", 0.85
"""copy whose decisions have a goal, and its mean Jaccard index"""
HEAD = """
## Copies

Decisions for a file and for its copies (`benchmarks/copies.py`): up to {seconds} s from the middle of {tracks} tracks
of the held-out packages, up to {per_kind} of every kind, stereo as they are. *Jaccard*: decided tags that a track and
its copy share, of those that either has, mean over tracks with 95 % of {resamples:,} resamples of the tracks; 1 where
neither has any. Differences are those of the logits of scores. Most of this music was compressed before. The
goal for {goal_copy} is {goal:.2f}.
"""

Samples = np.ndarray
"""frames × channels, float32, at `SAMPLE_RATE`"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["the model=default"], help="NAME=MODEL, or MODEL")
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--per-kind", type=int, default=3)
    options = parser.parse_args()
    lossy_codecs.check_installed()
    models = {name: tagger.load(model, threads=1) for name, model in outputs.named_models(options.models).items()}
    listed = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    tracks = sample(listed, options.per_kind)
    if missing := [track.id for track in tracks if not (options.music / track.path).is_file()]:
        sys.exit(f"{len(missing)} of {len(tracks)} tracks are missing below {options.music}, such as {missing[0]}")
    taggings: dict[str, dict[str, list[Tagging]]] = {name: {"": [], **{copy: [] for copy in COPIES}} for name in models}
    for track in tracks:
        samples = excerpt(options.music / track.path)
        for copy, encode in {"": wav, **COPIES}.items():
            content = encode(samples)
            for name, loaded in models.items():
                taggings[name][copy].append(loaded.tag(content))
    print(
        HEAD.format(
            seconds=SECONDS, tracks=len(tracks), per_kind=options.per_kind, resamples=RESAMPLES,
            goal_copy=GOAL_COPY, goal=GOAL,
        )
    )  # fmt: skip
    for name, by_copy in taggings.items():
        _table(name, by_copy)


def sample(music: Music, per_kind: int) -> list[Track]:
    """Held-out tracks of every kind, evenly spaced in the order of the manifest."""
    chosen = []
    for kind in KINDS:
        tracks = [track for track in music.heldout.tracks if music.kinds[track.id] == kind]
        count = min(per_kind, len(tracks))
        chosen += [tracks[(2 * number + 1) * len(tracks) // (2 * count)] for number in range(count)]
    return chosen


def excerpt(path: Path) -> Samples:
    """The middle of a file."""
    with soundfile.SoundFile(path) as file:
        wanted = min(SECONDS * file.samplerate, file.frames)
        file.seek((file.frames - wanted) // 2)
        samples = file.read(wanted, dtype="float32", always_2d=True)
        return resample(samples[:, :2], file.samplerate, SAMPLE_RATE)


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    return samples if rate == wanted else np.asarray(soxr.resample(samples, rate, wanted), np.float32)


def wav(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """A file without loss."""
    output = io.BytesIO()
    soundfile.write(output, samples, rate, format="WAV", subtype="FLOAT")
    return output.getvalue()


def vorbis(samples: Samples, quality: float) -> bytes:
    """An Ogg Vorbis file of a quality from 0 to 10."""
    output = io.BytesIO()
    with soundfile.SoundFile(
        output, "w", SAMPLE_RATE, samples.shape[1], "VORBIS", format="OGG", compression_level=1 - quality / 10
    ) as file:
        for start in range(0, len(samples), SAMPLE_RATE):  # libsndfile fails on long blocks
            file.write(samples[start : start + SAMPLE_RATE])
    return output.getvalue()


def encoded(samples: Samples, codec: str, bitrate: int) -> bytes:
    """A file by one of the encoders of `lossy_codecs`, with all channels."""
    import av

    encoder, rate = lossy_codecs.ENCODERS[codec], OPUS_RATE if codec == "opus" else SAMPLE_RATE
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    samples, output = np.clip(resample(samples, SAMPLE_RATE, rate), -1, 1), io.BytesIO()
    with av.open(output, "w", format=encoder.container) as container:
        stream: Any = container.add_stream(
            encoder.name, rate, options=dict(encoder.options), layout=layout, bit_rate=bitrate
        )
        for start in range(0, len(samples), lossy_codecs.BLOCK):
            block = samples[start : start + lossy_codecs.BLOCK]
            planes = block.T if encoder.sample_format.endswith("p") else block.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(planes), format=encoder.sample_format, layout=layout
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


COPIES: Mapping[str, Callable[[Samples], bytes]] = {
    **{
        f"{codec.upper() if codec != 'opus' else 'Opus'}, {bitrate} kbit/s": (
            lambda samples, codec=codec, bitrate=bitrate: encoded(samples, codec, 1_000 * bitrate)
        )
        for codec, bitrates in {"mp3": (64, 128, 320), "aac": (64, 128), "opus": (32, 64)}.items()
        for bitrate in bitrates
    },
    "Vorbis, quality 3": lambda samples: vorbis(samples, 3),
    "22 kHz, mono": lambda samples: wav(
        resample(samples.mean(axis=1, keepdims=True), SAMPLE_RATE, SAMPLE_RATE // 2), SAMPLE_RATE // 2
    ),
    "level −20 dB": lambda samples: wav(0.1 * samples),
}
"""copy → how its file is made"""


def _table(name: str, taggings: Mapping[str, Sequence[Tagging]]) -> None:
    """Print the agreement of the copies with the originals."""
    original, *copies = taggings
    decided, logits = outputs.decisions(taggings[original]), _logits(taggings[original])
    print(f"| {name}: copy | Jaccard | tracks with the same tags | mean difference | largest difference |")
    print(f"|---|{'--:|' * 4}")
    for copy in copies:
        shared = agreement.jaccard(decided, outputs.decisions(taggings[copy]))
        same = (decided == outputs.decisions(taggings[copy])).all(axis=1).mean()
        change = np.abs(_logits(taggings[copy]) - logits)
        missed = ", missed" if copy == GOAL_COPY and shared.mean() < GOAL else ""
        cells = [f"{_interval(shared)}{missed}", f"{same:.0%}", f"{change.mean():.2f}", f"{change.max():.2f}"]
        print(f"| {copy} | {' | '.join(cells)} |")
    print(f"\n{decided.sum(axis=1).mean():.1f} tags a track, {(~decided.any(axis=1)).mean():.0%} without one.\n")


def _logits(taggings: Sequence[Tagging]) -> np.ndarray:
    return calibration.logit(np.stack([item.scores for item in taggings]))


def _interval(values: np.ndarray) -> str:
    """Mean with a bootstrap interval over tracks."""
    generator, tail = np.random.default_rng(0), (1 - CONFIDENCE) / 2
    means = generator.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return f"{values.mean():.3f} ({low:.3f} … {high:.3f})"


if __name__ == "__main__":
    main()
