"""Measure the service: throughput against the command, latency, many clients for a minute, and a large library.

    python benchmarks/serve.py [--files N] [--clients N] [--seconds S] [--tracks N]

The service and the command have one core and one process that tags, the clients another core; both are measured from
the end of the first file to that of the last one. Beside other programs, compare CPU times. Prints Markdown tables.
"""

import argparse
import asyncio
import collections
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile

import library
import moodfield

RATE = 44_100
SECONDS = 30.0
"""length of a song"""
AUDIO = {"content-type": "audio/mpeg"}
ROUNDS = 3
PAUSE = 0.5
"""seconds after which a client tries again, whatever Retry-After states"""
TIMEOUT = 120.0
"""seconds after which a request counts as hung"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tracks", type=int, default=100_000, help="of the library; 0 leaves it out")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[1:]) or set(cores))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("## The service, one process that tags\n")
        with serving(folder / "empty.db", cores[0]) as (url, process):
            print_throughput(url, process, folder, options.files, cores[0])
            print_latency(url, options.files)
        with serving(folder / "empty.db", cores[0]) as (url, _):
            asyncio.run(print_load(url, options.clients, options.seconds))
        if not options.tracks:
            return
        library.fill(folder / "library.db", library.synthetic_files(options.tracks), moodfield.load())
        with serving(folder / "library.db", cores[0]) as (url, _):
            print_library(url, options.tracks)


def song(seconds: float, seed: int) -> bytes:
    """A stereo MP3 of noise whose level changes."""
    drawn = np.random.default_rng(seed)
    level = np.abs(np.sin(np.arange(int(seconds * RATE)) / RATE))[:, None]
    samples = (0.2 * level * drawn.normal(size=(int(seconds * RATE), 2))).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="MP3")
    return file.getvalue()


@contextlib.contextmanager
def serving(db: Path, core: int) -> Iterator[tuple[str, int]]:
    """A context with the address and the number of the process of a service on one core."""
    words = ["serve", "--db", str(db), "--port", "0", "--jobs", "1"]
    process = subprocess.Popen(command(words, core), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        url = next(word for word in line.split() if word.startswith("http")).rstrip(";").rstrip("/")
        for _ in range(2):  # the first answers when the models are loaded
            assert post(url, song(2, 0)).status_code == 200
        yield url, process.pid
    finally:
        process.terminate()
        process.communicate()


def command(words: list[str], core: int) -> list[str]:
    """A command on one core."""
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); from moodfield.cli import main; main.main()"
    guarded = f"if __name__ == '__main__':\n    {code}"
    path = Path(tempfile.gettempdir()) / f"moodfield_on_core_{core}.py"  # a file, since processes are spawned from it
    path.write_text(guarded, encoding="utf-8")
    return [sys.executable, str(path), *words]


def post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/v1/tag", content=body, headers=AUDIO, timeout=TIMEOUT)


def print_throughput(url: str, process: int, folder: Path, count: int, core: int) -> None:
    """Seconds of audio that are tagged in a second; rounds alternate, since the speed of machines varies."""
    songs = [song(SECONDS, seed) for seed in range(count)]
    for number, body in enumerate(songs):
        (folder / f"{number:03}.mp3").write_bytes(body)
    paths = [str(folder / f"{number:03}.mp3") for number in range(count)]
    values: dict[str, list[Cost]] = collections.defaultdict(list)
    limits = httpx.Limits(max_keepalive_connections=2)
    with httpx.Client(base_url=url, timeout=TIMEOUT, limits=limits) as client:

        def send(body: bytes) -> httpx.Response:
            return client.post("/v1/tag", content=body, headers=AUDIO)

        def send_form(body: bytes) -> httpx.Response:
            return client.post("/v1/tag", files={"file": ("song.mp3", body)})

        for _ in range(ROUNDS):
            values["`moodfield tag`"].append(cost_of_command(paths, core))
            values["service, plain bodies"].append(cost_of_service(send, songs, process))
            values["service, forms"].append(cost_of_service(send_form, songs, process))
    expected = values["`moodfield tag`"]
    print(
        "| throughput, one core | times real time | / command | CPU, ms for each file: server | tagging | / command |"
    )
    print("|---|---|---|---|---|---|")
    for name, costs in values.items():
        speed = np.median([SECONDS / cost.seconds for cost in costs])
        relative = np.median([other.seconds / cost.seconds for cost, other in zip(costs, expected, strict=True)])
        by_cpu = np.median([other.cpu / cost.cpu for cost, other in zip(costs, expected, strict=True)])
        server, tagging = 1e3 * np.median([(cost.server, cost.tagging) for cost in costs], axis=0)
        print(f"| {name} | {speed:.0f} | {relative:.2f} | {server:.1f} | {tagging:.1f} | {by_cpu:.2f} |", flush=True)
    print(f"\nMedians of {ROUNDS} rounds; goal: service / command 0.9.\n")


@dataclass(frozen=True)
class Cost:
    """Seconds that a file takes: elapsed, and CPU time of the server's own process and of the one that tags."""

    seconds: float
    server: float
    tagging: float

    @property
    def cpu(self) -> float:
        """CPU time of both."""
        return self.server + self.tagging


def cost_of_command(paths: list[str], core: int) -> Cost:
    """The cost of a file after the first one, when the model is loaded."""
    words = ["tag", "--json", "--jobs", "1", *paths, paths[0]]  # one more, so that the process has not ended yet
    process = subprocess.Popen(command(words, core), stdout=subprocess.PIPE)
    assert process.stdout
    ends = []
    for _ in paths:
        process.stdout.readline()
        ends.append((time.perf_counter(), cpu_time(process.pid)))
    process.communicate()
    seconds, cpu = np.subtract(ends[-1], ends[0]) / (len(paths) - 1)
    return Cost(seconds, 0.0, cpu)


def cost_of_service(send: Callable[[bytes], httpx.Response], songs: list[bytes], process: int) -> Cost:
    """The cost of a file after the first one, if one is uploaded while another one is tagged."""
    ends = []

    def tag(body: bytes) -> None:
        assert send(body).status_code == 200
        tagging = sum(map(cpu_time, children(process)))
        ends.append((time.perf_counter(), cpu_time(process), tagging))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(tag, songs))
    seconds, server, tagging = np.subtract(ends[-1], ends[0]) / (len(songs) - 1)
    return Cost(seconds, server, tagging)


def cpu_time(process: int) -> float:
    """Seconds of CPU time of a process, from Linux; 0 if it has ended."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/schedstat")]
    except OSError:
        return 0.0
    return sum(int(task.split()[0]) for task in tasks) / 1e9


def children(process: int) -> list[int]:
    """Processes that a process has started."""
    lists = [path.read_text().split() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(child) for numbers in lists for child in numbers]


def print_latency(url: str, count: int) -> None:
    """Seconds from the request to its answer, one client."""
    print("| upload | size, MB | p50, s | p99, s |\n|---|---|---|---|")
    for name, seconds in (("30 s", 30.0), ("4 min", 240.0)):
        body, times = song(seconds, 1), []
        for _ in range(count):
            start = time.perf_counter()
            assert post(url, body).status_code == 200
            times.append(time.perf_counter() - start)
        p50, p99 = np.quantile(times, [0.5, 0.99])
        print(f"| {name} | {len(body) / 1e6:.1f} | {p50:.2f} | {p99:.2f} |", flush=True)
    print()


async def print_load(url: str, clients: int, seconds: float) -> None:
    """Many clients that send a file again as soon as they have an answer, and one that asks for /healthz."""
    body = song(30, 2)
    outcomes: collections.Counter[str] = collections.Counter()
    times: dict[str, list[float]] = collections.defaultdict(list)
    end = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as client:

        async def measured(send: Callable[[], Awaitable[httpx.Response]], kind: str) -> None:
            start = time.perf_counter()
            try:
                answer = await send()
                name = f"{kind} {answer.status_code}"
                json.loads(answer.content)
            except httpx.HTTPError as error:
                name = f"{kind} {type(error).__name__}"
            outcomes[name] += 1
            times[name].append(time.perf_counter() - start)

        async def tag() -> None:
            while time.perf_counter() < end:
                await measured(lambda: client.post(f"{url}/v1/tag", content=body, headers=AUDIO), "tag")
                await asyncio.sleep(PAUSE)

        health = asyncio.create_task(measure_health(url, seconds))
        await asyncio.gather(*(tag() for _ in range(clients)))
    times["healthz 200"] = await health
    outcomes["healthz 200"] = len(times["healthz 200"])
    print(
        f"| {clients} clients, {seconds:.0f} s, {len(body) / 1e6:.1f} MB each | answers | p50, s | p99, s | most, s |"
    )
    print("|---|---|---|---|---|")
    for name, count in sorted(outcomes.items()):
        p50, p99, most = np.quantile(times[name], [0.5, 0.99, 1])
        print(f"| {name} | {count:,} | {p50:.3f} | {p99:.3f} | {most:.3f} |", flush=True)
    print("\nGoals: nothing but 200 and 503; healthz 0.1 s.\n")


HEALTH = """
import http.client, sys, time
end = time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    print(time.perf_counter() - start)
    time.sleep(0.1)
"""
"""a client in a process of its own, which the others do not delay"""


async def measure_health(url: str, seconds: float) -> list[float]:
    """Seconds of requests for /healthz, one every 0.1 s."""
    words = [sys.executable, "-c", HEALTH, url.rpartition(":")[2], str(seconds)]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [float(line) for line in output.split()]


def print_library(url: str, tracks: int) -> None:
    """Seconds of requests about a large library."""
    requests = {
        "the first request": "/v1/stats",
        "the map, placed and stored": "/v1/map",
        "the map again": "/v1/map",
        "50 tracks by name": "/v1/tracks",
        "50 tracks with a mood": "/v1/tracks?mood=calm&not=dark",
        "50 tracks by words": "/v1/tracks?q=title+777",
        "one track": "/v1/tracks/777",
        "similar tracks, the first": "/v1/tracks/777/similar",
        "similar tracks": "/v1/tracks/778/similar",
    }
    print(f"| {tracks:,} tracks | s | kB |\n|---|---|---|")
    with httpx.Client(base_url=url, timeout=TIMEOUT) as client:
        for name, path in requests.items():
            start = time.perf_counter()
            with client.stream("GET", path) as answer:
                size = sum(len(part) for part in answer.iter_raw())
            print(f"| {name} | {time.perf_counter() - start:.2f} | {size / 1e3:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
