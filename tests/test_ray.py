"""Mapping on a Ray cluster of this machine gives the same results as processes; skipped without Ray."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason='Ray is not installed: pip install "moodfield[cluster]"')
TESTS = Path(__file__).parent

PROGRAM = """
import json, logging.handlers, signal, sys, time
sys.path.insert(0, sys.argv[1])
from functools import partial
from pathlib import Path
import test_parallel
from moodfield import errors, parallel
from moodfield.parallel import Backend

def as_json(results):
    return [
        [item, type(result).__name__, str(result)] if isinstance(result, errors.MoodfieldError) else [item, result]
        for item, result in results
    ]

log = Path(sys.argv[2]) / "log"
kill_third = partial(test_parallel.kill_process, log, (3,), "exit")
taken = []
def items():
    for number in range(60):
        taken.append(number)
        yield number
before = signal.getsignal(signal.SIGTERM)
early = parallel.map(test_parallel.double, items(), backend=Backend.RAY)
first = next(early)
kept = signal.getsignal(signal.SIGTERM) is before
early.close()
logging.getLogger("moodfield").addHandler(handler := logging.handlers.BufferingHandler(100))
list(parallel.map(test_parallel.log_and_warn, range(4), backend=Backend.RAY))
folder = Path(sys.argv[2]) / "long"
folder.mkdir()
stopped = parallel.map(partial(test_parallel.sleep_long, folder), range(10), backend=Backend.RAY)
next(stopped)
while not (folder / "1.pid").exists():
    time.sleep(0.05)
start = time.monotonic()
stopped.close()
seconds = time.monotonic() - start
results = {
    "plain": as_json(parallel.map(test_parallel.double, range(20), backend=Backend.RAY)),
    "picky": as_json(parallel.map(test_parallel.raise_for_thirds, range(1, 6), backend=Backend.RAY)),
    "deadly": as_json(parallel.map(kill_third, range(6), backend=Backend.RAY)),
    "tries": log.read_text().split().count("3"),
    "taken": len(taken),
    "first": first,
    "records": [record.getMessage() for record in handler.buffer],
    "seconds": seconds,
    "handler": kept,
}
try:
    list(parallel.map(test_parallel.raise_value_error, range(4), backend=Backend.RAY))
except ValueError as error:
    results["faulty"] = str(error).splitlines()[-1]
(Path(sys.argv[2]) / "results.json").write_text(json.dumps(results))  # Ray writes to standard output, too
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return os.environ | {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.mark.slow
def test_a_cluster_gives_the_same_results(tmp_path, environment):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(TESTS), str(tmp_path)], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["plain"] == [[number, 2 * number] for number in range(20)]
    assert results["first"] == [0, 0]
    assert results["records"] == ["1 is damaged", "3 is damaged"]
    assert results["seconds"] < 2
    assert results["handler"]
    pids = [int(path.read_text()) for path in (tmp_path / "long").glob("*.pid")]
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "processes outlive the program"
        time.sleep(0.05)
    assert results["taken"] < 60, "more items were taken than needed"
    assert results["picky"][2] == [3, "AudioError", "3 is silent"]
    assert [row[1] for row in results["picky"] if row[0] != 3] == [1, 2, 4, 5]
    assert results["deadly"][3][1] == "WorkerCrashedError"
    assert "3 processes died of 3" in results["deadly"][3][2]
    assert [row for row in results["deadly"] if row[0] != 3] == [[number, 2 * number] for number in (0, 1, 2, 4, 5)]
    assert results["tries"] == 3
    assert "a fault of the program" in results["faulty"]


@pytest.mark.slow
def test_mels_computed_on_a_cluster_are_the_same(dataset, tmp_path, environment):
    program = """
import sys
from pathlib import Path
from moodfield.datasets import mtg_jamendo
from moodfield.parallel import Backend
from moodfield.mel import MelConfig
from moodfield.training.mel_cache import MelCache
folder = Path(sys.argv[1])
split = mtg_jamendo.read(folder / "train.tsv")
config = MelConfig(sample_rate=8000, n_fft=256, hop_length=256, n_mels=32)
for backend in Backend:
    cache = MelCache(Path(sys.argv[2]) / backend, config, folder / "music")
    results = list(cache.extract(split.tracks, backend=backend))
    print(len(results), all(result.is_file() for _, result in results))
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(dataset), str(tmp_path)], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == ["12 True"] * 2
    local_paths = sorted((tmp_path / "local").rglob("*.npy"))
    for path in local_paths:
        ray_path = tmp_path / "ray" / path.relative_to(tmp_path / "local")
        np.testing.assert_array_equal(np.load(path), np.load(ray_path))
    assert len(local_paths) == 12


@pytest.mark.slow
def test_an_existing_cluster_is_not_used(environment):
    address = "import ray, sys; {}; print('at', ray.get_runtime_context().gcs_address, flush=True); {}"
    cluster_program = address.format("ray.init('local', include_dashboard=False)", "sys.stdin.read()")
    map_program = "import test_parallel; from moodfield import parallel; from moodfield.parallel import Backend; "
    map_program += address.format(
        "list(parallel.map(test_parallel.double, range(2), backend=Backend.RAY))", "ray.shutdown()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", cluster_program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as cluster:
        cluster_address = next(line for line in cluster.stdout if line.startswith("at "))
        process = subprocess.run(
            [sys.executable, "-c", map_program], capture_output=True, text=True, env=environment, check=False
        )
        cluster.communicate()
    addresses = [line for line in process.stdout.splitlines() if line.startswith("at ")]
    assert len(addresses) == 1, process.stderr
    assert addresses != [cluster_address.strip()]
