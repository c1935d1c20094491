"""Tag the inputs of a catalogue by a pipeline of Ray Data: lists of inputs, workers, records."""

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from moodfield import parallel
from moodfield.catalogue import parts as parts_
from moodfield.catalogue import rows
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.rows import Record
from moodfield.catalogue.workers import Analyse, TrackWorker

if TYPE_CHECKING:
    import pyarrow as pa

SLICE = 8
"""files that a worker gets at a time; what is lost, and done again, if a machine dies"""
LISTING_TASKS = 4
"""parts whose inputs are listed at once"""


class TrackActor:
    """A `TrackWorker` of the cluster."""

    def __init__(self, models: tuple[str, ...], analyse: Analyse) -> None:
        self._worker = TrackWorker(models, analyse)

    def __call__(self, slices: "pa.Table") -> "pa.Table":
        """The records of slices of parts."""
        import pyarrow as pa

        items = [
            (part, row, source)
            for part, numbers, sources in zip(*slices.to_pydict().values(), strict=True)
            for row, source in zip(numbers, sources, strict=True)
        ]
        return pa.Table.from_pylist(list(self._worker.tag(items)), rows.record_schema())


def run(
    catalogue: Catalogue, parts: Sequence[int], again: Collection[int], models: tuple[str, ...], analyse: Analyse
) -> Iterator[Record]:
    """Records of the files of parts, in any order, by all cores of the cluster at RAY_ADDRESS, or of this machine."""
    import ray.data

    if not parts:
        return
    parallel.init_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block for each slice, which is what a worker gets at a time

    def list_slices(row: dict[str, Any]) -> list[dict[str, Any]]:
        items = parts_.items_of(catalogue, row["part"], again=row["part"] in again)
        slices = [items[start : start + SLICE] for start in range(0, len(items), SLICE)]
        return [{"part": row["part"], "rows": [i[1] for i in s], "sources": [i[2] for i in s]} for s in slices]

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    listing = ray.data.TaskPoolStrategy(min(LISTING_TASKS, len(parts)))
    records = (
        ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        .flat_map(list_slices, compute=listing, num_cpus=0)  # workers use all cores
        .map_batches(
            TrackActor,
            fn_constructor_args=(models, analyse),
            compute=ray.data.ActorPoolStrategy(size=max(1, int(resources.get("CPU", 1)))),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
        )
    )
    for table in records.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from cast("pa.Table", table).to_pylist()
