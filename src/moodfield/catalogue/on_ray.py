"""Tag the inputs of a catalogue by a pipeline of Ray Data: lists of inputs, workers, records."""

import logging
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from moodfield import parallel
from moodfield.catalogue import networks, parts, rows
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.parts import Plan
from moodfield.catalogue.rows import Record
from moodfield.catalogue.workers import TrackWorker, WorkerConfig
from moodfield.errors import CatalogueError, ModelError, MoodfieldError, UnknownNameError, UsageError
from moodfield.library import analysis

if TYPE_CHECKING:
    import pyarrow as pa

SLICE = 8
"""files that a worker gets at a time, whose records are a block; what is done again if a machine dies"""
ADDED = "\nFailed to apply UDF"
"""how the text begins that Ray Data adds to errors"""
FATAL = (CatalogueError, ModelError, UnknownNameError, UsageError)
"""errors of workers that stop a run"""


class ListActor:
    """Lists the inputs of parts; an actor, since Ray starts a process for each task that comes after a pause."""

    def __init__(self, catalogue: Catalogue, again: frozenset[int]) -> None:
        self._catalogue, self._again = catalogue, again

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The inputs of a part that are left to do, in slices."""
        part = row["part"]
        items = parts.items_of(self._catalogue, part, again=part in self._again)
        slices = [items[start : start + SLICE] for start in range(0, len(items), SLICE)]
        return [{"part": part, "rows": [i[1] for i in s], "sources": [i[2] for i in s]} for s in slices]


class TrackActor:
    """A `TrackWorker` of the cluster."""

    def __init__(self, config: WorkerConfig) -> None:
        self._worker = TrackWorker(config)
        self._is_prepared = config.analyse is networks.prepare

    def __call__(self, slices: "pa.Table") -> "pa.Table":
        """The records of slices of parts, in one row; those with mels, which are large, in a row each."""
        items = [
            (part, row, source)
            for part, numbers, sources in zip(*slices.to_pydict().values(), strict=True)
            for row, source in zip(numbers, sources, strict=True)
        ]
        records = list(self._worker.tag(items))
        return rows.nest([[record] for record in records] if self._is_prepared else [records], networks.schema())


def run(catalogue: Catalogue, plan: Plan, config: WorkerConfig) -> Generator[Record]:
    """Records of the files of a plan, in any order, by all cores of the cluster at RAY_ADDRESS, or of this machine."""
    import ray.data

    if not plan.parts:
        return
    parallel.init_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block for each slice, which is what a worker gets at a time
    context.raise_original_map_exception = True

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = _usable_gpus(resources)
    actors = gpus if config.networks is None else config.networks
    if actors and config.analyse is analysis.analyse:
        config = replace(config, analyse=networks.prepare)
    slices = sum(-(-catalogue.rows_of(part) // SLICE) for part in plan.parts)
    cores = max(1, min(slices, int(resources.get("CPU", 1)) - (0 if gpus else actors)))
    records = (
        ray.data.from_items([{"part": part} for part in plan.parts], override_num_blocks=len(plan.parts))
        .flat_map(
            ListActor, fn_constructor_args=(catalogue, plan.again), compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0,  # workers use all cores
        )
        .map_batches(
            TrackActor, fn_constructor_args=(config,), compute=ray.data.ActorPoolStrategy(size=cores), num_cpus=1,
            batch_size=None, batch_format="pyarrow",
        )
    )  # fmt: skip
    if actors:
        records = records.map_batches(
            networks.NetworkActor, fn_constructor_args=(config.models,),
            compute=ray.data.ActorPoolStrategy(size=actors), num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0,
            batch_size=networks.BATCH_TRACKS, batch_format="pyarrow",
        )  # fmt: skip
    try:
        for table in records.iter_batches(batch_size=None, batch_format="pyarrow"):
            for record in rows.unnest(cast("pa.Table", table)):
                yield {name: value for name, value in record.items() if name not in networks.MELS}
    except ray.exceptions.RayError as error:
        raise _cause(error) from error


def _cause(error: BaseException) -> MoodfieldError:
    """The error of a worker that stopped a pipeline; if it was none of moodfield, one with its words."""
    import ray

    chain = [error]
    while (cause := getattr(chain[-1], "cause", None) or chain[-1].__cause__) and cause not in chain:
        chain.append(cause)
    for cause in reversed(chain):  # Ray wraps errors in some of both types
        if isinstance(cause, FATAL) and not isinstance(cause, ray.exceptions.RayError):
            return type(cause)(str(cause).partition(ADDED)[0])
    texts = [text for cause in chain if (text := f"{type(cause).__name__}: {cause}".partition("\n")[0])[-2:] != ": "]
    return CatalogueError(f"the cluster has stopped ({(texts or [repr(error)])[-1]}); run the command again")


def _usable_gpus(resources: Mapping[str, float]) -> int:
    """The number of GPUs of the cluster, if ONNX Runtime can use them."""
    import ray

    count = int(resources.get("GPU", 0))
    if not count:
        return 0
    if ray.get(ray.remote(num_gpus=1)(networks.is_available).remote()):
        return count
    logging.getLogger("moodfield").warning("the GPUs of the cluster are not used: onnxruntime-gpu is not installed")
    return 0
