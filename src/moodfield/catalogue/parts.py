"""The parts of a catalogue: which are left to do, their inputs, and how they are committed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from moodfield.catalogue import dataset, rows
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.rows import Record
from moodfield.catalogue.workers import Item
from moodfield.errors import UsageError

FOOTERS = 32
"""footers of parts that are read at once"""


@dataclass(frozen=True)
class Plan:
    """What is left to do of a shard of a catalogue."""

    parts: tuple[int, ...]
    """parts that are not committed, and after them those that have rows that are not final"""
    again: frozenset[int]
    """those that are committed: only files of rows that are not final are tagged"""
    rows: int
    """number of rows of the shard"""
    done: int
    """rows of the shard that are final"""
    failed: int
    """those of them with an error"""


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
        counts = list(pool.map(partial(dataset.read_counts, catalogue), committed))
    again = frozenset(part for part, (_, not_final) in zip(committed, counts, strict=True) if not_final)
    new = sorted(set(own) - set(committed))
    failed, not_final = (sum(numbers) for numbers in zip((0, 0), *counts, strict=True))
    done = sum(map(catalogue.rows_of, committed)) - not_final
    return Plan((*new, *sorted(again)), again, sum(map(catalogue.rows_of, own)), done, failed - not_final)


def items_of(catalogue: Catalogue, part: int, *, again: bool) -> list[Item]:
    """The inputs of a part that are left to do; of a committed part, those whose rows are not final."""
    sources = catalogue.read_inputs(part)["source"].to_pylist()
    done = kept(catalogue, part) if again else {}
    return [(part, row, source) for row, source in enumerate(sources) if row not in done]


def kept(catalogue: Catalogue, part: int) -> dict[int, Record]:
    """The final records of a committed part by their row."""
    records = rows.to_records(dataset.read_part(catalogue, part), catalogue.vocabulary)
    return {row: record for row, record in enumerate(records) if rows.is_final(record)}


def commit(catalogue: Catalogue, part: int, records: dict[int, Record]) -> None:
    """Write the file of a part; raises `CatalogueError` if that fails."""
    ordered = [records[row] for row in range(len(records))]
    failed = sum(record["reason"] is not None for record in ordered)
    not_final = sum(not rows.is_final(record) for record in ordered)
    counts = {dataset.FAILED: failed, dataset.NOT_FINAL: not_final}
    table = rows.to_table(catalogue, catalogue.read_inputs(part), ordered)
    dataset.write_part(catalogue, part, table, counts=counts)
