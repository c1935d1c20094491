"""Programs that tag a catalogue on a Ray cluster of two nodes on this machine, run in processes of their own."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from moodfield.catalogue import dataset, parts, tag
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.workers import WorkerConfig
from moodfield.decoding.metadata import Metadata
from moodfield.errors import ModelError
from moodfield.library import analysis, models
from moodfield.library.analysis import Analysis
from moodfield.parallel import Backend

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
POISON = "poison"
"""part of the name of a file that crashes its process, and with a number the end of its content"""


def analyse(tries: str, seconds: float, names: tuple[str, ...], path: Path) -> Analysis:
    """An analysis that takes some time more, and whose process dies of poisoned files, which it notes."""
    if marker := re.search(rb"poison \d$", path.read_bytes()):
        with Path(tries).open("a") as file:
            file.write(f"{marker[0].decode()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return analysis.analyse(names, path)


def analyse_nothing(tries: str, names: tuple[str, ...], path: Path) -> Analysis:
    """The same without a model, which takes no time."""
    if path.read_bytes()[-8:-2] == POISON.encode():
        return analyse(tries, 0.0, names, path)
    logits, curves = np.zeros(56, np.float32), np.zeros((56, analysis.STEPS), np.int8)
    return Analysis(b"x", Metadata(), 1.0, logits, None, curves, np.zeros(0, np.uint8))


def raise_model_error(_: tuple[str, ...], path: Path) -> Analysis:
    """An analysis on a machine without the model."""
    raise ModelError("no such model")


def create(folder: Path | str, *sources: object, limit: int | None = None) -> Catalogue:
    """A catalogue of the default model."""
    return dataset.open_or_create(str(folder), list(map(str, sources)), models.describe(analysis.load(())), limit)


def run(
    folder: str, sources: list[str], config: WorkerConfig, on_part: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Tag a catalogue on the cluster; the number of records, and the most parts that were under way."""
    catalogue = create(folder, *sources)
    records, committed, most, under_way = 0, 0, 0, set[int]()
    for record in tag.run(catalogue, parts.plan(catalogue), config, on=Backend.RAY):
        records += 1
        under_way.add(record["part"])
        if len(done := catalogue.committed()) > committed:
            committed = len(done)
            under_way -= set(done)
            on_part(committed)
        most = max(most, len(under_way))
    return {"records": records, "most": most}


def start_cluster() -> tuple[Any, Any]:
    """A cluster of two nodes, and the second one; Ray waits 30 s for a node, too short on a busy machine."""
    from ray.cluster_utils import Cluster

    for attempt in range(3):
        cluster = Cluster()
        try:
            cluster.add_node(**NODE)
            return cluster, cluster.add_node(**NODE)
        except Exception:
            cluster.shutdown()
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def main() -> None:
    """Arguments as JSON: folder, sources, rows of a part, whether a node is killed; results as JSON in a file."""
    import ray

    options = json.loads(sys.argv[1])
    dataset.FEWEST_ROWS = options["rows"]
    cluster, second = start_cluster()
    ray.init(cluster.address, log_to_driver=False)
    nodes = [int(ray.cluster_resources()["CPU"])]
    killed: list[Thread] = []

    def kill(committed: int) -> None:
        if options["kill"] and not killed and committed >= 1:
            killed.append(Thread(target=cluster.remove_node, args=(second, False)))
            killed[0].start()

    function = partial(analyse, options["tries"], options["seconds"])
    config = (
        WorkerConfig(analyse=function) if options["networks"] is None else WorkerConfig(networks=options["networks"])
    )
    results = [run(job["folder"], job["sources"], config, kill) for job in options["jobs"]]
    for thread in killed:
        thread.join()
    nodes.append(int(ray.cluster_resources()["CPU"]))
    Path(options["results"]).write_text(json.dumps({"runs": results, "nodes": nodes}))
    ray.shutdown()
    cluster.shutdown()
