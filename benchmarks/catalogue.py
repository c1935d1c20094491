"""Cost of a catalogue: CPU seconds, memory and bytes per track, by processes and by two Ray nodes; a table of costs.

Tracks are the first of all music of `make music` (or another folder), cut to 60 s and written as FLAC. Every mode runs
in a process of its own, for all tracks and for two; a further track costs the difference, so that starting does not
count. CPU time and memory (proportional set size) are those of all processes of a mode, Ray's own too, read from /proc.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from moodfield import audio, engine, mel
from moodfield.catalogue import dataset, inputs, parts, tag
from moodfield.catalogue.workers import WorkerConfig
from moodfield.library import analysis, models
from moodfield.parallel import Backend

SECONDS = 60.0
FEW = 2
"""tracks of the run whose cost is that of starting"""
POLL = 0.1
"""seconds between two looks at the processes"""
IDLE = 20.0
"""seconds for which a cluster without work is observed"""
MARKER = "MOODFIELD_BENCHMARK"
"""environment variable by which the processes of a mode are recognised"""
LISTED = 1_000_000
"""inputs of the manifest whose time and memory are measured"""
LISTED_FILES = 200_000
"""files of the local folder whose time and memory are measured"""
TRACK = 240.0
"""seconds of a track in the table of costs"""
MODES = ("one process", "two processes", "two Ray nodes", "two Ray nodes, one for networks")
MACHINES = {"16 vCPU (c7i.4xlarge)": (16, 0, 0.714), "64 vCPU (c7i.16xlarge)": (64, 0, 2.856),
            "4 vCPU, NVIDIA L4 (g6.xlarge)": (4, 1, 0.805)}  # fmt: skip
"""machine → cores, GPUs, US dollars an hour: list prices on demand, which change; spot machines cost about a third"""


@dataclass  # mutable: it is filled while a program runs
class Usage:
    """What the processes of a program have used."""

    wall: float = 0.0
    cpu: dict[int, float] = field(default_factory=dict)
    """CPU seconds by process"""
    memory: list[float] = field(default_factory=list)
    """MB of all processes, once a second"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--tracks", type=int, help="default: all")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--plot", type=Path, help="picture of the memory over time")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--list", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        run_mode(options.mode, options.folder, options.output)
        return
    if options.list:
        run_listing(options.list)
        return
    with tempfile.TemporaryDirectory(prefix="catalogue-") as folder:
        music, few = Path(folder, "music"), Path(folder, "few")
        count = cut(options.music, music, options.tracks)
        few.mkdir()
        for path in sorted(music.iterdir())[:FEW]:
            (few / path.name).hardlink_to(path)
        cost, size, memory_of = print_modes(options.modes, music, few, count)
        if options.plot:
            plot(memory_of, options.plot)
        shares = print_shares(sorted(music.iterdir())[:50])
        print_listing(folder)
        print_costs(cost, size, shares)


def cut(source: Path, target: Path, limit: int | None) -> int:
    """Write the first minute of tracks as FLAC; the number of tracks."""
    target.mkdir()
    count = 0
    for path in audio.find(source):
        if limit is not None and count == limit:
            break
        try:
            with sf.SoundFile(path) as file:
                samples = file.read(int(SECONDS * file.samplerate), dtype="float32", always_2d=True)
                if len(samples) < SECONDS * file.samplerate:
                    continue
                sf.write(target / f"{count:05}.flac", samples, file.samplerate, subtype="PCM_16")
        except sf.SoundFileError as error:
            print(f"{path} is left out: {error}", file=sys.stderr)
            continue
        count += 1
    return count


def run_mode(mode: str, folder: str, output: str) -> None:
    """Tag a folder, or only start a cluster and wait if there is none."""
    cluster = None
    if "Ray" in mode:
        import ray
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 150 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        ray.init(cluster.address, log_to_driver=False)
    if folder:
        catalogue = dataset.open_or_create(output, [folder], models.describe(analysis.load(())), None)
        on = Backend.RAY if cluster else Backend.LOCAL
        config = WorkerConfig(networks=1 if "networks" in mode else 0)
        jobs = 2 if "two" in mode else 1
        for _ in tag.run(catalogue, parts.plan(catalogue), config, on=on, jobs=jobs):
            pass
    else:
        print("ready", flush=True)
        time.sleep(IDLE)
    if cluster:
        ray.shutdown()
        cluster.shutdown()


def measure(mode: str, folder: Path | None, output: str) -> Usage:
    """Run a mode, and watch its processes; of a cluster without work, from the time when it is ready."""
    marker, usage = secrets.token_hex(8), Usage()
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--mode",
        mode,
        "--folder",
        str(folder or ""),
        "--output",
        output,
    ]
    environment = os.environ | {MARKER: marker, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    start = time.monotonic()
    before: dict[int, float] = {}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        if folder is None:
            assert process.stdout
            while b"ready" not in process.stdout.readline():
                pass
            before = {pid: cpu_seconds(pid) for pid in processes(marker)}
            start = time.monotonic()
        looks = 0
        while process.poll() is None and (folder or time.monotonic() - start < IDLE - 1):
            pids = list(processes(marker))
            for pid in pids:  # one that ends meanwhile has used no less than before
                usage.cpu[pid] = max(usage.cpu.get(pid, 0.0), cpu_seconds(pid) - before.get(pid, 0.0))
            if looks % round(1 / POLL) == 0:
                usage.memory.append(sum(map(memory, pids)))
            looks += 1
            time.sleep(POLL)
        usage.wall = time.monotonic() - start
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"{mode} failed: {' '.join(command)}\n{errors.read()[-5000:].decode(errors='replace')}")
    return usage


def processes(marker: str) -> Iterator[int]:
    """The processes with a marker in their environment."""
    wanted = f"{MARKER}={marker}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes():
                yield int(path.name)
        except OSError:
            continue


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process; 0 if it has ended."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Proportional set size of a process in MB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)


def print_modes(
    modes: Sequence[str], music: Path, few: Path, count: int
) -> tuple[float, float, dict[str, list[float]]]:
    """Print a row for each mode; CPU seconds of a further track by the first, bytes of a track, and memory by mode."""
    print(f"## {count:,} tracks of {SECONDS:g} s\n")
    head = ("", "CPU s per further track", "× one process", "CPU s to start", "s in all", "MB at most", "first half",
            "second half")  # fmt: skip
    print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}", flush=True)
    first, size, memory_of = 0.0, 0.0, {}
    for mode in modes:
        output = str(music.parent / f"moods {mode}")
        start, whole = measure(mode, few, f"{output} few"), measure(mode, music, output)
        cost = (sum(whole.cpu.values()) - sum(start.cpu.values())) / (count - FEW)
        first = first or cost
        memory_of[mode] = whole.memory
        half = len(whole.memory) // 2
        sums = [max(whole.memory), statistics.median(whole.memory[:half]), statistics.median(whole.memory[half:])]
        values = [f"{cost:.3f}", f"{cost / first:.2f}", f"{sum(start.cpu.values()):.1f}", f"{whole.wall:.0f}"]
        print(f"| {mode} | {' | '.join([*values, *(f'{value:,.0f}' for value in sums)])} |", flush=True)
        size = sum(path.stat().st_size for path in Path(output, dataset.PARTS).iterdir()) / count
    print(f"\nRows take {size / 1000:.2f} kB a track.\n")
    if not any("Ray" in mode for mode in modes):
        return first, size, memory_of
    idle = measure("two Ray nodes", None, "")
    print(f"Two Ray nodes without work take {sum(idle.cpu.values()) / idle.wall:.3f} CPU seconds a second, and ")
    print(f"{max(idle.memory):,.0f} MB.\n", flush=True)
    return first, size, memory_of


def plot(memory_of: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the memory of modes over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for mode, values in memory_of.items():
        axes.plot(range(len(values)), values, label=mode)
    axes.set(xlabel="seconds", ylabel="MB of all processes", ylim=(0, None), xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def print_shares(paths: list[Path]) -> dict[str, float]:
    """Print where the time of one process goes; the shares."""
    tagger = analysis.load(())
    [config] = tagger.mel_configs
    seconds = dict.fromkeys(("decoding and resampling", "mel", "network", "digest"), 0.0)
    for path in paths:
        marks = [time.process_time()]
        for _ in audio.blocks(path, sample_rate=config.sample_rate):
            pass
        marks.append(time.process_time())
        for _ in mel.stream(audio.Reader(path, sample_rate=config.sample_rate), config):
            pass
        marks.append(time.process_time())
        tagger.tag(path)
        marks.append(time.process_time())
        analysis.digest(path)
        marks.append(time.process_time())
        decoding, with_mel, everything, digest = np.diff(marks)
        for name, value in zip(seconds, (decoding, with_mel - decoding, everything - with_mel, digest), strict=True):
            seconds[name] += value
    total = sum(seconds.values())
    shares = {name: value / total for name, value in seconds.items()}
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    print(f"Where the time of one process goes: {listed}.\n", flush=True)
    return shares


def print_listing(folder: str) -> None:
    """Print what lists of many inputs cost, of a manifest and of one local folder."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [f"s3://bucket/music/{number % 997:03}/{number:08}.flac" for number in range(LISTED)]
    manifest, files = Path(folder, "manifest.parquet"), Path(folder, "files")
    parquet.write_table(pa.table({"uri": names}), manifest)
    del names
    files.mkdir()
    for number in range(LISTED_FILES):
        (files / f"{number:08}.flac").touch()
    for kind, source in {"manifest": manifest, "local folder": files}.items():
        words = [sys.executable, __file__, "--list", str(source)]
        cost = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout)
        print(f"A list of {cost['inputs']:,} inputs of a {kind} takes {cost['seconds']:.1f} s, ", end="")
        print(f"{cost['peak'] / cost['inputs']:.0f} bytes of memory for each at most, ", end="")
        print(f"and {cost['bytes'] / cost['inputs']:.0f} bytes for each in Parquet.\n", flush=True)


def run_listing(source: str) -> None:
    """List a source in this process; prints its cost as JSON."""
    inputs.collect([source], limit=1)  # imports what is needed
    before, start = peak_memory(), time.perf_counter()
    table = inputs.collect([source])
    seconds, size = time.perf_counter() - start, len(dataset.to_bytes(table))
    print(json.dumps({"inputs": len(table), "seconds": seconds, "peak": peak_memory() - before, "bytes": size}))


def peak_memory() -> float:
    """The most memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def print_costs(cost: float, size: float, shares: dict[str, float]) -> None:
    """Print the costs of large catalogues, from what was measured."""
    per_track = cost * TRACK / SECONDS
    on_cpu = per_track * (1 - shares["network"])
    sum_ = f"{cost:.3f} × {TRACK / SECONDS:g} = {per_track:.2f} CPU seconds"
    print(f"## Costs\n\nA track of {TRACK / 60:g} minutes takes {sum_}, {on_cpu:.2f} of them without the network.\n")
    print("| tracks | machine | $ an hour | CPU s a track | hours of one machine | machines for a day | $ |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for count in (1_000_000, 10_000_000):
        for name, (cores, gpus, price) in MACHINES.items():
            used = on_cpu if gpus else per_track
            hours = count * used / cores / 3600
            row = (f"{count:,}", name, f"{price:.3f}", f"{used:.2f}", f"{hours:,.0f}", f"{hours / 24:.1f}")
            print(f"| {' | '.join(row)} | {hours * price:,.0f} |")
    print(f"\nRows of ten million tracks take {size * 1e7 / 1e9:.0f} GB.")
    if "cuda" not in engine.devices():
        print("No GPU was measured: its row is the least that is possible, with a network that takes no time.")
        return
    print(json.dumps({"devices": engine.devices()}))


if __name__ == "__main__":
    main()
