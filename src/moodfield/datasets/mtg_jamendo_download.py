"""MTG-Jamendo's tars, fetched and unpacked.

In: which music, and a folder. Out: the folder with its music, its index and its lists of checksums.
Knows nothing of: how a file is fetched, or what is in the music.

Trust begins here: the checksums of the dataset's lists are written down below, the lists have those of the tars and of
the tracks, and nothing gets its name before it is compared with them.
"""

import hashlib
import json
import tarfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath

from moodfield import errors, files
from moodfield.datasets import download, mtg_jamendo
from moodfield.datasets.download import RetryPolicy
from moodfield.errors import ConfigError, DatasetError, DownloadError, MoodfieldError

REPOSITORY = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/1b4fa8c32e076c73b5175c1703ae805b4109309d"
"""the dataset's own repository, at the commit of 9 July 2024"""
PINNED: Mapping[str, str] = {
    "data/download/autotagging_moodtheme_audio_sha256_tars.txt": (
        "cab7bd1b599a000a296f4aab03fa0ce37422a18fa2820338ec39c7fb47eca8b0"
    ),
    "data/download/autotagging_moodtheme_audio_sha256_tracks.txt": (
        "c978880b055fd38e66a87c4de8cb0e473c96b262f5963d1c28db2912b78cd738"
    ),
    "data/download/autotagging_moodtheme_audio-low_sha256_tars.txt": (
        "4d88ed2e461bd58de90b50632075d110ef8fab72fc8e83c90c2ffc21f0c12cb1"
    ),
    "data/download/autotagging_moodtheme_audio-low_sha256_tracks.txt": (
        "5c5af02cdf5092ab5e86ff767a144ebec3815d71d834461795f73b128ffe4846"
    ),
    "data/splits/split-0/autotagging_moodtheme-train.tsv": (
        "e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4"
    ),
    "data/splits/split-0/autotagging_moodtheme-validation.tsv": (
        "ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf"
    ),
    "data/splits/split-0/autotagging_moodtheme-test.tsv": (
        "4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394"
    ),
    "data/tags/moodtheme_split.txt": "68797d2f5164d78aafb641a6575f6ba68723293a715a91a8166a7b8ec19af169",
}
"""files of the repository → SHA-256; the split is that of MediaEval"""
MIRRORS: Mapping[str, str] = {
    "mtg-fast": "https://cdn.freesound.org/mtg-jamendo",
    "mtg": "https://essentia.upf.edu/documentation/datasets/mtg-jamendo",
}
"""where the tars are: a mirror in Finland, and the organisers' own server, which is slow"""
TARS = "tars"
"""the folder, below that of the music, of tars under way and of what is remembered of those that were unpacked"""
MOST_OF_LIST = 2**24
"""bytes of a list or an index; the longest has 1.6 MB"""
MOST_OF_TRACK = 2**29
"""bytes of one file in a tar; the longest track of the dataset, 78 minutes at 320 kbit/s, has 190 MB"""
MOST_OF_TAR = 2**34
"""bytes of all files in a tar; those of the dataset have 1.5 GB on average"""
MOST_OF_HEADER = 2**20
"""bytes that say more of one file, such as a long name"""
MOST_MEMBERS = 100_000
"""files and folders in a tar"""

HEADERS = (b"x", b"g", b"X", b"L", b"K")
"""the types of what only says more of the next file"""

ProgressCallback = Callable[[str, int, int | None], None]
"""told, from any thread, of a tar, its bytes that are here, and those that there will be if the server says it"""


class AudioQuality(StrEnum):
    """In which form the music comes."""

    AUDIO = "audio"
    LOW = "audio-low"


@dataclass(frozen=True)
class Lists:
    """What belongs to a dataset, by the lists that it publishes."""

    tars: Mapping[str, str]
    """name of a tar → SHA-256, in the order of the list"""
    tracks: Mapping[str, str]
    """path of a file in the tars → SHA-256; empty if there is no such list"""


def fetch(
    to: Path,
    *,
    kind: AudioQuality = AudioQuality.LOW,
    parts: int | None = None,
    lists: Path | None = None,
    mirrors: Sequence[str] = tuple(MIRRORS),
    jobs: int = 4,
    keep_tars: bool = False,
    patience: RetryPolicy | None = None,
    told: ProgressCallback = lambda *_: None,
) -> Iterator[tuple[str, int | MoodfieldError]]:
    """Fetch and unpack the mood/theme subset below `to`; for each tar how many files it had, or why it failed.

    `parts` is how many of the tars, the first ones; all of them without it. `lists` is a clone of the dataset's
    repository, or a folder with its lists; without it they are fetched and must be those that are known here. `mirrors`
    are names of `MIRRORS` or addresses, asked in this order. `jobs` tars are under way at a time. What was unpacked is
    remembered, and its tar deleted unless `keep_tars`; it can be interrupted at any moment and goes on where it
    stopped. One tar that fails stops no other. Refuses what cannot begin.
    """
    bases = [name if "://" in name else errors.get_or_suggest(MIRRORS, name, what="mirror") for name in mirrors]
    found = gather(to, kind, lists=lists, patience=patience)
    wanted = list(found.tars.items())[:parts]
    if not wanted or jobs < 1:
        raise ConfigError(f"{parts} parts and {jobs} jobs came; wanted at least one of each")
    stop = threading.Event()

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise _Stopped

    def seen(name: str, done: int, total: int | None) -> None:
        pause(0.0)
        told(name, done, total)

    def one(name: str, sha256: str) -> int:
        before = _remembered(to, name, sha256)
        if before is not None:
            return before
        # from the first byte to the end, or another run takes the tar away
        with download.lock(to / TARS / name.removesuffix(".tar")):
            return _remembered(to, name, sha256) or afresh(name, sha256)

    def afresh(name: str, sha256: str) -> int:
        tar = to / TARS / name
        addresses = [f"{base.rstrip('/')}/autotagging_moodtheme/{kind}/{name}" for base in bases]
        download.fetch(tar, addresses, sha256=sha256, patience=patience, wait=pause, told=partial(seen, name))
        unpacked = unpack(tar, to, found.tracks, on=partial(pause, 0.0))
        files.write(_memory(to, name), json.dumps({"sha256": sha256, "files": unpacked}).encode())
        if not keep_tars:
            tar.unlink()
        return len(unpacked)

    pool, wait = ThreadPoolExecutor(jobs), True
    under_way = {pool.submit(one, *each): each[0] for each in wanted}
    try:
        for done in as_completed(under_way):
            yield under_way[done], _came_to(done, under_way[done])
    except KeyboardInterrupt:
        wait = False  # for threads that wait for a silent server
        raise
    finally:
        stop.set()
        pool.shutdown(wait=wait, cancel_futures=True)


def gather(to: Path, kind: AudioQuality, *, lists: Path | None = None, patience: RetryPolicy | None = None) -> Lists:
    """Put the index of the subset and its lists of checksums into `to`, from a clone or folder, or fetched; the lists.

    A folder may lack anything but the list of tars. Refuses lists that cannot be had, or cannot be right.
    """
    for path, sha256 in PINNED.items():
        name = path.rpartition("/")[2]
        if "sha256" in name and f"_{kind}_" not in name:
            continue
        if lists is None:
            address = f"{REPOSITORY}/{path}"
            download.fetch(to / name, [address], sha256=sha256, most=MOST_OF_LIST, patience=patience)
        elif source := next((each for each in (lists / path, lists / name) if each.is_file()), None):
            _copy(source, to / name)
    tars, tracks = (to / f"autotagging_moodtheme_{kind}_sha256_{what}.txt" for what in ("tars", "tracks"))
    if not tars.is_file():
        raise DatasetError(
            f"{lists} has no {tars.name}, nor data/download/{tars.name}; wanted a clone of the dataset's repository"
        )
    found = Lists(mtg_jamendo.read_sums(tars), mtg_jamendo.read_sums(tracks) if tracks.is_file() else {})
    strange = [name for name in found.tars if PurePosixPath(name).name != name or not name.endswith(".tar")]
    if strange:
        raise DatasetError(f"{tars} lists what are no names of tars: {', '.join(strange[:20])}")
    return found


def unpack(
    tar: Path, to: Path, tracks: Mapping[str, str], *, on: Callable[[], object] = lambda: None
) -> dict[str, int]:
    """Put the files of a tar below `to`, each whole or not at all; their paths and bytes.

    `tracks` has the SHA-256 of every file there may be; empty, it allows all. `on` is called before each file, and may
    raise to stop. Refuses with `DatasetError`, all faults at once and before anything is written, a tar that holds
    anything but files and folders that belong below `to`, or too much; and a file with another checksum.
    """
    try:
        # not compressed: nothing in it is larger than what was fetched
        with tarfile.open(tar, "r:", tarinfo=_Member) as archive:
            members, faults = _examined(archive, to, tracks)
            if faults:
                raise DatasetError(f"{tar.name} was not unpacked: {errors.join_errors(faults)}; get another copy of it")
            for member in members:
                on()
                _extract(archive, member, to / member.name, tracks.get(member.name))
    except (tarfile.TarError, EOFError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise DatasetError(
            f"{tar.name} is no whole tar: {error or type(error).__name__}; get another copy of it"
        ) from error
    return {member.name: member.size for member in members}


class _Member(tarfile.TarInfo):
    """What a tar says of one thing in it; headers that would fill the memory are not read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """As `tarfile` calls it for every header, before it reads what belongs to it."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in HEADERS and found.size > MOST_OF_HEADER:
            raise tarfile.ReadError(f"a header of {found.size:,} bytes came, at most {MOST_OF_HEADER:,} are believed")
        return found


class _Stopped(Exception):
    """Nobody wants the rest any more."""


def _came_to(done: "Future[int]", name: str) -> int | MoodfieldError:
    """How many files a tar had, or why it failed; a fault of ours is raised."""
    try:
        return done.result()
    except MoodfieldError as error:
        return error
    except OSError as error:
        return DownloadError(f"{name} cannot be unpacked: {download.os_error_hint(error, 'what is whole stays')}")


def _copy(source: Path, target: Path) -> None:
    """A list of the folder, unless it is there."""
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, content)


def _memory(to: Path, name: str) -> Path:
    return to / TARS / f"{name}.json"


def _remembered(to: Path, name: str, sha256: str) -> int | None:
    """How many files of this very tar were unpacked, if all of them are still there."""
    try:
        kept = json.loads(_memory(to, name).read_bytes())
        right = kept["sha256"] == sha256 and all((to / p).stat().st_size == size for p, size in kept["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # never unpacked, or not remembered well: it is unpacked again
    return len(kept["files"]) if right else None


def _examined(archive: tarfile.TarFile, to: Path, tracks: Mapping[str, str]) -> tuple[list[tarfile.TarInfo], list[str]]:
    """The files in a tar, and everything that is wrong with what it holds."""
    regular: list[tarfile.TarInfo] = []
    faults: list[str] = []
    names, total = set(), 0
    for count, member in enumerate(archive, start=1):
        if count > MOST_MEMBERS:
            faults.append(f"it holds more than {MOST_MEMBERS:,} things")
            break
        if fault := _fault(member, to):
            faults.append(f"{member.name!r} {fault}")
        elif member.isreg():
            if tracks and member.name not in tracks:
                faults.append(f"{member.name!r} is not in the list of tracks")
            if (name := _folded(member.name)) in names:
                faults.append(f"{member.name!r} comes twice")
            names.add(name)
            regular.append(member)
            total += member.size
    if not regular and not faults:
        faults.append("it holds no file")
    if total > MOST_OF_TAR:
        faults.append(f"its files have {total:,} bytes, at most {MOST_OF_TAR:,} are believed")
    return regular, faults


def _fault(member: tarfile.TarInfo, to: Path) -> str:
    """Why a member may not be unpacked, or nothing."""
    parts = PurePosixPath(member.name).parts
    if not (member.isreg() or member.isdir()) or member.issparse():
        return "is neither a file nor a folder"
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or ":" in member.name:
        return "leaves the folder"
    ours = {each.rpartition("/")[2] for each in PINNED}
    if not member.name.isprintable() or not parts or parts[0].casefold() == TARS or parts[-1].startswith("."):
        return "is no name of a track"
    if _folded(member.name) in ours or member.name.endswith(".part") or any(len(p.encode()) > 255 for p in parts):
        return "is no name of a track"
    if not 0 <= member.size <= MOST_OF_TRACK:
        return f"has {member.size:,} bytes, at most {MOST_OF_TRACK:,} are believed"
    try:
        tarfile.data_filter(member, str(to))  # a second opinion: it also knows links that are already there
    except tarfile.FilterError as error:
        return f"is refused: {error}"
    return ""


def _folded(name: str) -> str:
    """What a name is to a disk that tells neither case nor forms of letters apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(PurePosixPath(name))).casefold())


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, sha256: str | None) -> None:
    """Write one file, if it is the right one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for half in target.parent.glob(f"{escape(target.name)}.*.part"):  # of a process that was killed
        half.unlink(missing_ok=True)
    source, digest = archive.extractfile(member), hashlib.sha256()
    with files.atomic_path(target) as half, half.open("wb") as file:
        while source and (block := source.read(download.BLOCK)):
            file.write(block)
            digest.update(block)
        if sha256 not in (None, digest.hexdigest()):
            raise DatasetError(f"{member.name} has another checksum than in the list; get another copy of its tar")
