"""Download of MTG-Jamendo's mood/theme subset: lists of checksums, tars of audio, safe extraction.

The checksums of the lists of the dataset are pinned below, the lists have those of the tars and tracks, and no file
gets its name before its checksum is compared.
"""

import hashlib
import json
import tarfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath

from moodfield import errors, files
from moodfield.datasets import download, mtg_jamendo
from moodfield.datasets.download import RetryPolicy
from moodfield.errors import ConfigError, DatasetError, DownloadError, MoodfieldError

REPOSITORY = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/1b4fa8c32e076c73b5175c1703ae805b4109309d"
"""the repository of the dataset, at the commit of 9 July 2024"""
LISTS, SPLITS = "data/download/autotagging_moodtheme_", "data/splits/split-0/autotagging_moodtheme-"
"""how the paths of lists and of indexes begin in the repository"""
PINNED: Mapping[str, str] = {
    f"{LISTS}audio_sha256_tars.txt": "cab7bd1b599a000a296f4aab03fa0ce37422a18fa2820338ec39c7fb47eca8b0",
    f"{LISTS}audio_sha256_tracks.txt": "c978880b055fd38e66a87c4de8cb0e473c96b262f5963d1c28db2912b78cd738",
    f"{LISTS}audio-low_sha256_tars.txt": "4d88ed2e461bd58de90b50632075d110ef8fab72fc8e83c90c2ffc21f0c12cb1",
    f"{LISTS}audio-low_sha256_tracks.txt": "5c5af02cdf5092ab5e86ff767a144ebec3815d71d834461795f73b128ffe4846",
    f"{SPLITS}train.tsv": "e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4",
    f"{SPLITS}validation.tsv": "ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf",
    f"{SPLITS}test.tsv": "4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394",
    "data/tags/moodtheme_split.txt": "68797d2f5164d78aafb641a6575f6ba68723293a715a91a8166a7b8ec19af169",
}
"""path in the repository → SHA-256; the split is that of MediaEval"""
MIRRORS: Mapping[str, str] = {
    "mtg-fast": "https://cdn.freesound.org/mtg-jamendo",
    "mtg": "https://essentia.upf.edu/documentation/datasets/mtg-jamendo",
}
"""servers of the tars: a mirror in Finland, and the slow one of the organisers"""
TARS = "tars"
"""folder below that of the audio for tars, and for records of those that were extracted"""
MAX_LIST_BYTES = 2**24
"""size of a list or index; the longest has 1.6 MB"""
MAX_TRACK_BYTES = 2**29
"""size of one file in a tar; the longest track of the dataset, 78 minutes at 320 kbit/s, has 190 MB"""
MAX_TAR_BYTES = 2**34
"""size of all files in a tar; those of the dataset have 1.5 GB on average"""
MAX_HEADER_BYTES = 2**20
"""size of an extended header of one file, such as a long name"""
MAX_MEMBERS = 100_000
"""files and folders in a tar"""

EXTENDED_HEADERS = (b"x", b"g", b"X", b"L", b"K")
"""types of members that only extend the header of the next file"""

ProgressCallback = Callable[[str, int, int | None], None]
"""called, from any thread, with the name of a tar, its received bytes, and its size if the server gives it"""


class AudioQuality(StrEnum):
    """The two encodings of the audio."""

    AUDIO = "audio"
    LOW = "audio-low"


@dataclass(frozen=True)
class Checksums:
    """The checksums that the dataset publishes."""

    tars: Mapping[str, str]
    """file name of a tar → SHA-256, in the order of the list"""
    tracks: Mapping[str, str]
    """path of a file in the tars → SHA-256; empty if there is no such list"""


def fetch(
    folder: Path,
    *,
    quality: AudioQuality = AudioQuality.LOW,
    n_tars: int | None = None,
    lists: Path | None = None,
    mirrors: Sequence[str] = tuple(MIRRORS),
    jobs: int = 4,
    keep_tars: bool = False,
    retry: RetryPolicy | None = None,
    progress: ProgressCallback = lambda *_: None,
) -> Iterator[tuple[str, int | MoodfieldError]]:
    """Download and extract the mood/theme subset.

    Extracted tars are recorded, and deleted unless `keep_tars`. An interrupted download resumes when it is repeated. A
    tar that fails does not stop the others.

    Args:
        folder: Where to write audio, index and lists.
        quality: Encoding of the audio.
        n_tars: Number of tars, from the first; by default all.
        lists: A clone of the dataset's repository, or a folder with its lists; by default they are downloaded, and must
            have the pinned checksums.
        mirrors: Names of `MIRRORS`, or URLs, in the order in which they are tried.
        jobs: Number of tars that are downloaded at a time.
        keep_tars: Keep tars that were extracted.
        retry: How often to try.
        progress: Called for every received block.

    Yields:
        The name of every tar, with the number of its files or the error that stopped it.

    Raises:
        UnknownNameError: A mirror is unknown.
        ConfigError: `n_tars` or `jobs` is below 1.
        DatasetError: The lists cannot be used.
        DownloadError: The lists cannot be downloaded.

    """
    urls = [name if "://" in name else errors.get_or_suggest(MIRRORS, name, what="mirror") for name in mirrors]
    checksums = fetch_lists(folder, quality, lists=lists, retry=retry)
    tars = list(checksums.tars.items())[:n_tars]
    if not tars or jobs < 1:
        raise ConfigError(f"{n_tars} tars and {jobs} jobs given; expected at least one of each")
    urls = [f"{url.rstrip('/')}/autotagging_moodtheme/{quality}" for url in urls]
    work = _Download(folder, urls, checksums.tracks, keep_tars, retry, progress)
    pool, wait = ThreadPoolExecutor(jobs), True
    names = {pool.submit(work.run, name, sha256): name for name, sha256 in tars}
    try:
        for future in as_completed(names):
            yield names[future], _result(future, names[future])
    except KeyboardInterrupt:
        wait = False  # threads may wait for a silent server
        raise
    finally:
        work.stopped.set()
        pool.shutdown(wait=wait, cancel_futures=True)


def fetch_lists(
    folder: Path, quality: AudioQuality, *, lists: Path | None = None, retry: RetryPolicy | None = None
) -> Checksums:
    """Copy or download the index of the subset and its lists of checksums into `folder`, and read the checksums.

    Args:
        folder: Where to write them.
        quality: Encoding of the audio.
        lists: A clone of the repository, or a folder with the lists, of which only that of the tars is required; by
            default they are downloaded.
        retry: How often to try.

    Raises:
        DatasetError: The list of tars is missing or wrong.
        DownloadError: They cannot be downloaded.

    """
    for path, sha256 in PINNED.items():
        name = path.rpartition("/")[2]
        if "sha256" in name and f"_{quality}_" not in name:
            continue
        if lists is None:
            urls = [f"{REPOSITORY}/{path}"]
            download.fetch(folder / name, urls, sha256=sha256, max_bytes=MAX_LIST_BYTES, retry=retry)
        elif source := next((file for file in (lists / path, lists / name) if file.is_file()), None):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / name).is_file() or files.sha256(folder / name) != files.sha256(source):
                files.write(folder / name, source.read_bytes())
    tars, tracks = (folder / f"autotagging_moodtheme_{quality}_sha256_{part}.txt" for part in ("tars", "tracks"))
    if not tars.is_file():
        raise DatasetError(f"{lists} has no {tars.name}; expected the dataset's repository, or its data/download")
    track_checksums = mtg_jamendo.read_checksums(tracks) if tracks.is_file() else {}
    checksums = Checksums(mtg_jamendo.read_checksums(tars), track_checksums)
    invalid = [name for name in checksums.tars if PurePosixPath(name).name != name or not name.endswith(".tar")]
    if invalid:
        raise DatasetError(f"{tars} lists invalid file names of tars: {', '.join(invalid[:20])}")
    return checksums


def unpack(
    tar: Path, folder: Path, tracks: Mapping[str, str], *, on_file: Callable[[], object] = lambda: None
) -> dict[str, int]:
    """Extract a tar safely: every file is written atomically, after the whole tar was checked.

    Args:
        tar: The tar, not compressed.
        folder: Where to write its files.
        tracks: Path → SHA-256 of the files that are allowed; if empty, all are.
        on_file: Called before each file; may raise to stop.

    Returns:
        Path → bytes of the files.

    Raises:
        DatasetError: The tar is damaged, too large, or holds anything but regular files and folders that belong below
            `folder` (all faults at once, before anything is written), or a file has another checksum.

    """
    try:
        # not compressed: nothing in it is larger than the downloaded tar
        with tarfile.open(tar, "r:", tarinfo=_TarInfo) as archive:
            members, faults = _check_members(archive, folder, tracks)
            if faults:
                raise DatasetError(f"{tar.name} was not unpacked: {errors.join_errors(faults)}; get another copy of it")
            for member in members:
                on_file()
                _extract(archive, member, folder / member.name, tracks.get(member.name))
    except (tarfile.TarError, EOFError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise DatasetError(f"{tar.name} is no complete tar: {error or type(error).__name__}; get it again") from error
    return {member.name: member.size for member in members}


class _TarInfo(tarfile.TarInfo):
    """A member of a tar; extended headers that would fill the memory are not read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_TarInfo":
        """Parse a header; `tarfile` calls this for every header, before it reads the data of the member."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in EXTENDED_HEADERS and info.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {info.size:,} bytes; expected at most {MAX_HEADER_BYTES:,}")
        return info


class _StoppedError(Exception):
    """The caller has stopped the download."""


@dataclass(frozen=True)
class _Download:
    """Download and extraction of tars, in several threads that can be stopped."""

    folder: Path
    urls: Sequence[str]
    tracks: Mapping[str, str]
    keep_tars: bool
    retry: RetryPolicy | None
    progress: ProgressCallback
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, name: str, sha256: str) -> int:
        """Download and extract a tar unless that was done; the number of its files."""
        n_files = _recorded(self.folder, name, sha256)
        if n_files is not None:
            return n_files
        # locked from the first byte to the end, or another process would delete the tar
        with download.lock(self.folder / TARS / name.removesuffix(".tar")):
            return _recorded(self.folder, name, sha256) or self._run(name, sha256)

    def _run(self, name: str, sha256: str) -> int:
        tar = self.folder / TARS / name
        urls = [f"{url}/{name}" for url in self.urls]
        progress = partial(self._progress, name)
        download.fetch(tar, urls, sha256=sha256, retry=self.retry, sleep=self._sleep, progress=progress)
        sizes = unpack(tar, self.folder, self.tracks, on_file=partial(self._sleep, 0.0))
        files.write(_record(self.folder, name), json.dumps({"sha256": sha256, "files": sizes}).encode())
        if not self.keep_tars:
            tar.unlink()
        return len(sizes)

    def _sleep(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise _StoppedError

    def _progress(self, name: str, done: int, total: int | None) -> None:
        self._sleep(0.0)
        self.progress(name, done, total)


def _result(future: "Future[int]", name: str) -> int | MoodfieldError:
    """The number of files of a tar, or the error that stopped it; unexpected errors are raised."""
    try:
        return future.result()
    except MoodfieldError as error:
        return error
    except OSError as error:
        return DownloadError(f"{name} cannot be unpacked: {download.os_error_hint(error, 'complete files are kept')}")


def _record(folder: Path, name: str) -> Path:
    """The path of the record of an extracted tar."""
    return folder / TARS / f"{name}.json"


def _recorded(folder: Path, name: str, sha256: str) -> int | None:
    """The number of files of a tar that was extracted, if all of them are still there; else None."""
    try:
        record = json.loads(_record(folder, name).read_bytes())
        sizes = record["files"]
        complete = record["sha256"] == sha256 and all((folder / p).stat().st_size == size for p, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # not extracted yet, or the record is damaged: extract again
    return len(sizes) if complete else None


def _check_members(
    archive: tarfile.TarFile, folder: Path, tracks: Mapping[str, str]
) -> tuple[list[tarfile.TarInfo], list[str]]:
    """The files in a tar, and all faults of its members."""
    regular: list[tarfile.TarInfo] = []
    faults: list[str] = []
    names, total = set(), 0
    for count, member in enumerate(archive, start=1):
        if count > MAX_MEMBERS:
            faults.append(f"it has more than {MAX_MEMBERS:,} members")
            break
        if fault := _member_fault(member, folder):
            faults.append(f"{member.name!r} {fault}")
        elif member.isreg():
            if tracks and member.name not in tracks:
                faults.append(f"{member.name!r} is not in the list of tracks")
            if (name := _fold(member.name)) in names:
                faults.append(f"{member.name!r} is contained twice")
            names.add(name)
            regular.append(member)
            total += member.size
    if not regular and not faults:
        faults.append("it has no files")
    if total > MAX_TAR_BYTES:
        faults.append(f"its files have {total:,} bytes; expected at most {MAX_TAR_BYTES:,}")
    return regular, faults


def _member_fault(member: tarfile.TarInfo, folder: Path) -> str:
    """Why a member may not be extracted; empty if it may."""
    parts = PurePosixPath(member.name).parts
    if not (member.isreg() or member.isdir()) or member.issparse():
        return "is neither a regular file nor a folder"
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or ":" in member.name:
        return "leaves the folder"
    reserved = {path.rpartition("/")[2] for path in PINNED}
    if not member.name.isprintable() or not parts or parts[0].casefold() == TARS or parts[-1].startswith("."):
        return "is not a valid file name of a track"
    if _fold(member.name) in reserved or member.name.endswith(".part") or any(len(p.encode()) > 255 for p in parts):
        return "is not a valid file name of a track"
    if not 0 <= member.size <= MAX_TRACK_BYTES:
        return f"has {member.size:,} bytes; expected at most {MAX_TRACK_BYTES:,}"
    if not (folder / member.name).resolve().is_relative_to(folder.resolve()):
        return "leaves the folder by a link in it"
    return ""


def _fold(name: str) -> str:
    """A name as file systems compare it that ignore case and Unicode normal forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(PurePosixPath(name))).casefold())


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, sha256: str | None) -> None:
    """Write one file atomically, if its checksum is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for partial_path in target.parent.glob(f"{escape(target.name)}.*.part"):  # of a process that was killed
        partial_path.unlink(missing_ok=True)
    source, digest = archive.extractfile(member), hashlib.sha256()
    with files.atomic_path(target) as partial_path, partial_path.open("wb") as file:
        while source and (block := source.read(download.BLOCK)):
            file.write(block)
            digest.update(block)
        if sha256 not in (None, digest.hexdigest()):
            raise DatasetError(f"{member.name} has another checksum than in the list; get another copy of its tar")
