"""Tags of fifty tracks of all kinds of music, with a verdict for each.

    python benchmarks/fifty.py [MODEL] [--update]

The list is fifty.tsv beside this script. A person fills in `verdict` (right, half or wrong) and `why`, about the
absolute tags in `tags`. A verdict counts while the model decides those tags; `--update` writes the present ones, and
empties the verdicts of tracks whose tags have changed. Prints the page docs/fifty.md.
"""

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import moodfield
import outputs
from moodfield import files, parallel
from moodfield.distillation import manifest
from moodfield.distillation.manifest import KINDS, Music
from moodfield.tagging import Tagging
from moodfield.training.pipeline import RunPaths

HERE = Path(__file__).parent
LIST = Path(__file__).with_suffix(".tsv")
VERDICTS = ("right", "half", "wrong")
OPEN = "to be assessed"
"""instead of a verdict about other tags"""
NO_TAG = "–"
HEAD = """# Fifty tracks

By `benchmarks/fifty.py` (`make fifty`): tags of the bundled model for {count} tracks of {kinds} kinds of music,
{source}.
*Absolute* tags are those of one track by itself, ordered by evidence, with how many times as likely as usual each is;
*relative* tags are decided relative to these {count} tracks, as by `moodfield tag --relative`.

The verdict is about the absolute tags, by title, genre, tempo, key, and what else is known of the piece; nobody
played the tracks for it:
*right*: the tags describe it, and none contradicts; *half*: some do, or a clear one is missing; *wrong*: most
contradict it. Tempo (beats per minute, often off by a factor of two), onsets and key are
estimates by librosa, from a minute.

{summary}
"""


@dataclass(frozen=True)
class Row:
    """A track of the list."""

    path: str
    """its path below the music, which is its identifier in the manifest"""
    kind: str
    """kind of music"""
    title: str
    """title"""
    known: str
    """what is known of it"""
    tags: str
    """absolute tags that the verdict is about"""
    verdict: str
    """one of the `VERDICTS`, or empty"""
    why: str
    """reason in a few words"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="default")
    parser.add_argument("--update", action="store_true", help="write the present tags into the list")
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--jobs", type=int, default=parallel.cpu_count())
    options = parser.parse_args()
    music = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    rows = read(LIST, music)
    tracks = {track.id: track for track in music.tracks}
    wanted = [tracks[row.path] for row in rows]
    paths = RunPaths(options.music, options.store, Path(), options.jobs)
    tagged = outputs.of_model(options.model, wanted, paths)
    if missing := [track.id for track in wanted if track not in tagged.tracks]:
        sys.exit(f"{len(missing)} of {len(rows)} tracks could not be read, such as {missing[0]}; make music")
    rows = [current(row, tagging) for row, tagging in zip(rows, tagged.taggings, strict=True)]
    if options.update:
        write(LIST, rows)
    page(rows, tagged.taggings, moodfield.decide(tagged.taggings), music)


def read(path: Path, music: Music) -> list[Row]:
    """The list; exits if a track is not in the manifest, is of another kind there, or has an unknown verdict."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [Row(**row) for row in csv.DictReader(file, delimiter="\t")]
    for row in rows:
        if music.kinds.get(row.path) != row.kind:
            sys.exit(f"{path}: {row.path} is of kind {row.kind!r}, in the manifest {music.kinds.get(row.path)!r}")
        if row.verdict not in ("", *VERDICTS):
            sys.exit(f"{path}: verdict of {row.path} is {row.verdict!r}; expected {', '.join(VERDICTS)} or nothing")
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the list."""
    output = io.StringIO(newline="")
    columns = list(Row.__dataclass_fields__)
    writer = csv.DictWriter(output, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    files.write(path, output.getvalue().encode())


def current(row: Row, tagging: Tagging) -> Row:
    """The row with the present tags, without a verdict that was about others."""
    present = ", ".join(tagging.decided) or NO_TAG
    return row if row.tags == present else replace(row, tags=present, verdict="", why="")


def page(rows: Sequence[Row], absolute: Sequence[Tagging], relative: Sequence[Tagging], music: Music) -> None:
    """Print the page."""
    training = {track.id for track in music.train.tracks}
    count = sum(row.path in training for row in rows)
    source = f"{count} of them training music, marked †" if count else "all from packages that it was not trained on"
    verdicts = Counter(row.verdict or OPEN for row in rows)
    summary = ", ".join(f"{verdicts[name]} {name}" for name in (*VERDICTS, OPEN) if verdicts[name])
    kinds = len({row.kind for row in rows})
    print(HEAD.format(count=len(rows), kinds=kinds, source=source, summary=f"**{summary}.**"))
    print("| track | kind | absolute tags, × as usual | relative tags | verdict | why |\n|---|---|---|---|---|---|")
    results = sorted(zip(rows, absolute, relative, strict=True), key=lambda item: KINDS.index(item[0].kind))
    for row, one, other in results:
        title = f"**{row.title}**{' †' * (row.path in training)}: {row.known}"
        cells = [title, row.kind, with_times(one), with_times(other), row.verdict or OPEN, row.why]
        print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")


def with_times(tagging: Tagging) -> str:
    """Decided tags, each with how many times as likely as usual it is."""
    times: Mapping[str, float] = dict(zip(tagging.vocabulary, tagging.times_usual.tolist(), strict=True))
    return ", ".join(f"{tag} {times[tag]:.2g} ×" for tag in tagging.decided) or NO_TAG


if __name__ == "__main__":
    main()
