"""The mel cache: extraction against librosa with as many processes, reading random clips, and waiting in training.

    python benchmarks/mel_cache.py [MUSIC]          default: Emotify in MOODFIELD_DATA

The input is decoded audio (float32 wav files at the mel's sample rate), so that only mels are compared; both write
float16 arrays. Processes are new each time and import what they need, so this module itself imports nothing heavy. The
training step is that of the default recipe in bf16.
"""
# ruff: noqa: E402

import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded: the processes are the threads

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from moodfield import audio, parallel
from moodfield.datasets.mtg_jamendo import Track
from moodfield.mel import MelConfig
from moodfield.training.mel_cache import MelCache

if TYPE_CHECKING:
    import torch

    from moodfield.nets import Net

FILES = 100
"""files, at most"""
REPEATS = 3
CLIPS = 2_000
STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("music", nargs="*", type=Path, default=[Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"])
    files = audio.find(parser.parse_args().music)[:FILES]
    if not files:
        sys.exit("no music: name files or folders, or set MOODFIELD_DATA to the folder that holds emotify/")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tracks = _decoded(files, place / "wav")
        print("## The mel cache\n")
        _extraction(tracks, files, place)
        _clips(MelCache(place / "ours", MelConfig(), place / "wav"), tracks)
        _waiting(MelCache(place / "ours", MelConfig(), place / "wav"), tracks)


def _decoded(files: list[Path], folder: Path) -> list[Track]:
    """The music as float32 wav files."""
    folder.mkdir()
    tracks = []
    for number, file in enumerate(files):
        waveform = audio.read(file, sample_rate=MelConfig().sample_rate)
        soundfile.write(folder / f"{number}.wav", waveform.samples, waveform.sample_rate, subtype="FLOAT")
        tracks.append(Track(str(number), f"{number}.wav", waveform.duration, ()))
    return tracks


def _extraction(tracks: list[Track], files: list[Path], place: Path) -> None:
    """Seconds for all tracks, interleaved."""
    jobs, seconds = parallel.cpu_count(), sum(track.seconds for track in tracks)
    ours, theirs, encoded = [], [], []
    for _ in range(REPEATS):
        shutil.rmtree(place / "ours", ignore_errors=True)
        ours.append(_timed(partial(_extract, MelCache(place / "ours", MelConfig(), place / "wav"), tracks, jobs)))
        theirs.append(_timed(partial(_librosa, tracks, place, jobs)))
        shutil.rmtree(place / "encoded", ignore_errors=True)
        originals = [Track(file.name, file.name, 0.0, ()) for file in files]
        encoded.append(
            _timed(partial(_extract, MelCache(place / "encoded", MelConfig(), files[0].parent), originals, jobs))
        )
    print(
        f"{len(tracks)} tracks, {seconds / 60:.0f} min, hop 512, {jobs} new processes each time; "
        f"medians of {REPEATS}.\n"
    )
    print("| extraction | × real time | tracks per second |\n|---|---|---|")
    for name, times in (
        ("moodfield, decoded audio", ours), ("librosa and multiprocessing, decoded audio", theirs),
        (f"moodfield, {files[0].suffix} files", encoded),
    ):  # fmt: skip
        middle = float(np.median(times))
        print(f"| {name} | {seconds / middle:.0f} | {len(tracks) / middle:.1f} |")
    print(f"\nlibrosa / moodfield: {np.median(np.divide(theirs, ours)):.2f}.\n")


def _extract(store: MelCache, tracks: list[Track], jobs: int) -> None:
    for _, result in store.extract(tracks, jobs=jobs):
        if isinstance(result, Exception):
            raise result


def _librosa(tracks: list[Track], place: Path, jobs: int) -> None:
    shutil.rmtree(place / "theirs", ignore_errors=True)
    (place / "theirs").mkdir()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.map(
            _librosa_one, [(place / "wav" / track.path, place / "theirs" / track.id) for track in tracks], chunksize=1
        )


def _librosa_one(work: tuple[Path, Path]) -> None:
    import librosa

    import mel as librosas

    samples, _ = librosa.load(work[0], sr=MelConfig().sample_rate)
    np.save(work[1], librosas.chain(samples, MelConfig()).T.astype(np.float16))


def _clips(store: MelCache, tracks: list[Track]) -> None:
    """Random clips of 10 s, as float32, from memory and from the disk, by one thread and by several."""
    from moodfield.training.recipe import Recipe

    frames = Recipe().clip_frames
    mels = [store.open(track) for track in tracks]
    generator = np.random.default_rng(0)
    chosen = [
        (int(n), int(generator.integers(len(mels[n]) - frames))) for n in generator.integers(len(mels), size=CLIPS)
    ]

    def read(clip: tuple[int, int]) -> float:
        track, start = clip
        return float(np.asarray(mels[track][start : start + frames], np.float32)[0, 0])

    print("| random 10 s clips (862 × 256) | threads | clips per second |\n|---|---|---|")
    for state in ("warm", "cold"):
        for threads in (1, 2, 4, 8):
            few = chosen if state == "warm" else chosen[:: CLIPS // (4 * len(tracks))]
            _settle(store, tracks, cold=state == "cold")
            with ThreadPoolExecutor(threads) as pool:
                seconds = _timed(partial(_all, pool.map(read, few)))
            print(f"| {'in memory' if state == 'warm' else 'on disk'} | {threads} | {len(few) / seconds:,.0f} |")
    print()


def _settle(store: MelCache, tracks: list[Track], *, cold: bool) -> None:
    """Drop the files from the page cache, or load them into it."""
    for _, path in store.extract(tracks):
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                file.read()


def _waiting(store: MelCache, tracks: list[Track]) -> None:
    """Time in which a step of the default recipe waits for its batch."""
    import torch

    from moodfield import nets
    from moodfield.training import augment, batches, loop
    from moodfield.training.batches import ClipDataset, TrackTargets
    from moodfield.training.recipe import Recipe

    plan = Recipe().change("precision=bf16-mixed", f"schedule.constant={STEPS}")
    loop.keep_freed_memory(plan)
    generator, size = np.random.default_rng(0), plan.batch.size
    many = tuple(store.open(track) for track in tracks) * (size * STEPS // len(tracks) + 1)
    material = ClipDataset(many[: size * STEPS], TrackTargets(np.zeros((size * STEPS, nets.TAGS), np.float32)))
    net = nets.create("fa_resnet").to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    fill = np.zeros(plan.mel.n_mels, np.float32)

    def made() -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        drawn = batches.epoch(material, clip_frames=plan.clip_frames, size=size, fill=fill, generator=generator)
        for mels, truth in drawn:
            yield augment.mix(augment.roll(mels, plan.augment, generator), truth, plan.augment, generator)

    making = _timed(lambda: list(made())) / STEPS
    waited, stepped = [], []
    coming = batches.prefetch(made())
    while True:
        began = time.perf_counter()
        batch = next(coming, None)
        waited.append(time.perf_counter() - began)
        if batch is None:
            break
        stepped.append(_timed(partial(_step, net, optimizer, *batch)))
    share = sum(waited[1:-1]) / (sum(waited[1:-1]) + sum(stepped[1:]))
    print(f"A batch of {size} clips, rolled and mixed up, takes {making * 1e3:.0f} ms; a step of the default recipe")
    print(f"in bf16 takes {np.median(stepped[1:]):.2f} s, with {share:.2%} of the time waiting for a batch, because")
    print("the next one is prepared meanwhile.")


def _step(net: "Net", optimizer: "torch.optim.Optimizer", mels: "torch.Tensor", truth: "torch.Tensor") -> None:
    import torch
    from torch.nn import functional

    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(mels)
    functional.binary_cross_entropy_with_logits(logits.float(), truth).backward()
    optimizer.step()


def _all(things: Iterable[object]) -> None:
    for _ in things:
        pass


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
