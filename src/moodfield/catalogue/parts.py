"""The parts of a catalogue: which are left to do, their inputs, and how they are committed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from moodfield.catalogue import dataset, rows, storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.rows import Record
from moodfield.catalogue.workers import Item
from moodfield.errors import CatalogueError, UsageError

FOOTERS = 32
"""footers of parts that are read at once"""


@dataclass(frozen=True)
class Plan:
    """What is left to do of a shard of a catalogue."""

    parts: tuple[int, ...]
    """parts that are not committed, or have files that storage has not delivered"""
    again: frozenset[int]
    """those that are committed: only their undelivered files are tagged"""
    rows: int
    """number of rows of the shard"""
    done: int
    """rows of the shard that are there"""


def parse_shard(text: str) -> tuple[int, int]:
    """A shard `i/n` as two numbers, i from 1 to n; raises `UsageError` for anything else.

    >>> parse_shard("2/8")
    (2, 8)
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text} is no shard; expected i/n with i from 1 to n, such as 1/4")
    return int(number), int(count)


def plan(catalogue: Catalogue, shard: tuple[int, int] = (1, 1)) -> Plan:
    """What is left to do of a shard: every n-th part, from the i-th on."""
    number, count = shard
    own = range(number - 1, catalogue.parts, count)
    committed = [part for part in catalogue.committed() if part in own]
    with ThreadPoolExecutor(FOOTERS) as pool:
        counts = pool.map(partial(dataset.read_counts, catalogue), committed)
        undelivered = {part: missing for part, (_, missing) in zip(committed, counts, strict=True) if missing}
    complete = set(committed) - undelivered.keys()
    parts = tuple(part for part in own if part not in complete)
    done = sum(map(catalogue.rows_of, committed)) - sum(undelivered.values())
    return Plan(parts, frozenset(undelivered), sum(map(catalogue.rows_of, own)), done)


def items_of(catalogue: Catalogue, part: int, *, again: bool) -> list[Item]:
    """The inputs of a part that are left to do; of a committed part, those that storage has not delivered."""
    sources = catalogue.read_inputs(part)["source"].to_pylist()
    done = kept(catalogue, part) if again else {}
    return [(part, row, source) for row, source in enumerate(sources) if row not in done]


def kept(catalogue: Catalogue, part: int) -> dict[int, Record]:
    """The records of a committed part by their row, without those of files that storage has not delivered."""
    records = rows.to_records(dataset.read_part(catalogue, part), catalogue.vocabulary)
    return {row: record for row, record in enumerate(records) if record["reason"] != storage.STORAGE}


def commit(catalogue: Catalogue, part: int, records: dict[int, Record]) -> None:
    """Write the file of a part; raises `CatalogueError` if storage has delivered nothing of a whole part."""
    ordered = [records[row] for row in range(len(records))]
    undelivered = [record for record in ordered if record["reason"] == storage.STORAGE]
    if len(undelivered) == len(ordered) == catalogue.rows:
        raise CatalogueError(f"storage delivers no file: {undelivered[-1]['error']}; finished parts are kept")
    failed = sum(record["reason"] is not None for record in ordered)
    counts = {dataset.FAILED: failed, dataset.UNDELIVERED: len(undelivered)}
    table = rows.to_table(catalogue, catalogue.read_inputs(part), ordered)
    dataset.write_part(catalogue, part, table, counts=counts)
