"""A file of the internet becomes a file here, whole and checked.

In: the addresses of a file, and its checksum. Out: the file under its name, or why it could not be had.
Knows nothing of: what is in the file.

What has come lies beside it as `NAME.part`, so that the next try, or the next run, goes on from there.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from moodfield import files
from moodfield.errors import ConfigError, DownloadError

if TYPE_CHECKING:
    import httpx

BLOCK = 2**18
"""bytes read from the disk at a time"""
MOST = 2**34
"""bytes of a file whose size is not known; a server that sends more is not believed"""
MOST_REDIRECTIONS = 20
"""in a row"""
LEAST = 1_000_000
"""bytes that tries in a row must bring together, or the next address is asked"""
SLOWEST = 1_000
"""bytes a second below which a connection is given up"""
LONGEST_PAUSE = 60.0
"""seconds between two tries"""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""what a disk says that has no room"""
BUSY = frozenset({408, 425, 429})
"""answers that mean later, beside all from 500 on"""

SPAN = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
"""what a range says of itself: its first byte, and the bytes of the whole"""

ProgressCallback = Callable[[int, int | None], None]
"""told of the bytes that are here, and of those that there will be if the server says it; may raise to stop"""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on with one address."""

    tries: int = 5
    """tries in a row that bring less than a megabyte; then the next address is asked"""
    pause: float = 1.0
    """seconds before the second of them, doubled before every further one"""
    silence: float = 30.0
    """seconds without a byte, or with hardly any, after which a connection is given up"""

    def __post_init__(self) -> None:
        if self.tries < 1 or self.pause < 0 or self.silence <= 0:
            raise ConfigError(f"{self} came; wanted tries of at least 1, a pause of at least 0 s, a silence above 0 s")


def fetch(
    path: Path,
    addresses: Sequence[str],
    *,
    sha256: str,
    size: int | None = None,
    most: int = MOST,
    patience: RetryPolicy | None = None,
    wait: Callable[[float], object] = time.sleep,
    told: ProgressCallback = lambda *_: None,
) -> None:
    """Put the file with this SHA-256, and these bytes if they are known, at `path`, from the first address that has it.

    Where they are not known, no more than `most` are believed. A file that is there and right is not fetched again;
    one that is wrong is replaced. Cut connections and busy servers are tried again after `wait` seconds, from the
    byte that was reached if the server can. What a server sends is hashed as it comes, and takes its name only if
    the checksum is right; what is wrong is thrown away. Refuses with `DownloadError`, which says what became of every
    address, also when the disk is full; what has come is then kept. Refuses with `LockedError` if another process
    downloads the same file.
    """
    strange = [address for address in addresses if not address.startswith(("https://", "http://"))]
    if strange or not addresses:
        raise ConfigError(
            f"{', '.join(strange) or 'nothing'} came as address of {path.name}; wanted https:// or http://"
        )
    try:
        if _is_there(path, sha256):
            return
        half = path.with_name(f"{path.name}.part")
        with lock(path):
            if _is_there(path, sha256):  # another process was faster
                return
            with half.open("a+b") as file:
                part = _Part(file, sha256, size, most)
                faults = _from_any(addresses, part, patience or RetryPolicy(), wait, told)
                file.flush()
                os.fsync(file.fileno())
            if not faults:
                half.replace(path)
                return
            if not part.size:
                half.unlink()
    except OSError as error:
        raise DownloadError(f"{path} cannot be written: {os_error_hint(error, 'what has come is kept')}") from error
    kept = (
        f"the first {part.size:,} bytes are kept, try again later"
        if part.size
        else "try again later, or name another source"
    )
    raise DownloadError(f"{path.name} could not be fetched: {'; '.join(faults)}; {kept}")


def lock(path: Path) -> AbstractContextManager[None]:
    """Hold `NAME.lock` beside a file that is downloaded; `LockedError` if another process, or thread, holds it."""
    return files.lock(path.with_name(f"{path.name}.lock"), what=f"the download of {path}")


def os_error_hint(error: OSError, kept: str) -> str:
    """Why something could not be written, what is kept, and what helps."""
    what = "make room" if error.errno in FULL else "mend that"
    return f"{error.strerror or error}; {kept}: {what} and try again"


class _Part:
    """What has come of a file, on disk, with its digest."""

    def __init__(self, file: IO[bytes], sha256: str, size: int | None, most: int) -> None:
        self._file, self._sha256, self.wanted = file, sha256, size
        self.most = most if size is None else size
        self.inherited = False
        """whether its first bytes are of an earlier run, or of another address"""
        self._digest, self.size = hashlib.sha256(), 0
        file.seek(0)
        while block := file.read(BLOCK):
            self._count(block)

    @property
    def right(self) -> bool:
        """Whether this is the whole file, and the one that was wanted."""
        return self._digest.hexdigest() == self._sha256

    def add(self, block: bytes) -> None:
        """What came next; the file was opened to append."""
        self._file.write(block)
        self._count(block)

    def empty(self) -> None:
        """Throw everything away."""
        self._file.truncate(0)
        self._digest, self.size, self.inherited = hashlib.sha256(), 0, False

    def _count(self, block: bytes) -> None:
        self._digest.update(block)
        self.size += len(block)


class _Again(Exception):
    """A try failed; the next one may not."""


class _Elsewhere(Exception):
    """An address will not do."""


def _is_there(path: Path, sha256: str) -> bool:
    """Whether the right file is there."""
    return path.is_file() and files.sha256(path) == sha256


def _from_any(
    addresses: Sequence[str],
    part: _Part,
    patience: RetryPolicy,
    wait: Callable[[float], object],
    told: ProgressCallback,
) -> list[str]:
    """Fill the part from one address after the other; what was wrong with all of them, or nothing."""
    import httpx

    if part.right:
        return []
    faults = []
    with httpx.Client(timeout=patience.silence) as client:
        for address in addresses:
            try:
                _from_one(client, address, part, patience, wait, told)
            except _Elsewhere as error:
                faults.append(f"{address} {error}")
            else:
                return []
    return faults


def _from_one(
    client: "httpx.Client",
    address: str,
    part: _Part,
    patience: RetryPolicy,
    wait: Callable[[float], object],
    told: ProgressCallback,
) -> None:
    """Fill the part from one address, in as many tries as bring something new."""
    import httpx

    idle, furthest, part.inherited = 0, part.size, part.size > 0
    while True:
        try:
            _receive(client, address, part, patience.silence, told)
            break
        except (_Again, httpx.RequestError) as error:
            if part.right:  # whatever else was said to come
                return
            # more than ever before: a server that knows no ranges and cuts here and there would else go on for ever
            idle = 0 if part.size >= furthest + LEAST else idle + 1
            furthest = furthest if idle else part.size
            if idle >= patience.tries:
                raise _Elsewhere(f"failed {idle} times in a row: {error or type(error).__name__}") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise _Elsewhere(f"is no address, or leads to none: {error}") from error
        wait(min(patience.pause * 2 ** max(0, idle - 1), LONGEST_PAUSE))
    if part.right:
        return
    inherited = part.inherited
    part.empty()
    if not inherited:
        raise _Elsewhere("sent a file with another checksum, which was thrown away")
    # what was wrong may have been here before: once more, from 0
    _from_one(client, address, part, patience, wait, told)


def _receive(client: "httpx.Client", address: str, part: _Part, silence: float, told: ProgressCallback) -> None:
    """One try: ask for what is missing, and add what comes."""
    headers = {"Accept-Encoding": "identity"}  # a range of something compressed could not be put together
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with closing(_answer(client, client.build_request("GET", address, headers=headers))) as answer:
        code, (first, total) = answer.status_code, _extent(answer.headers)
        if code == 416:  # more is here than there is there
            part.empty()
            raise _Again("cannot go on from what is here")
        if code in BUSY or code >= 500:
            raise _Again(f"answered {code}")
        if code not in (200, 206):
            raise _Elsewhere(f"answered {code}")
        if (packed := answer.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise _Elsewhere(f"sends it as {packed}, which was not asked for")  # some bytes can hold gigabytes
        if part.wanted is not None and total is not None and total != part.wanted:
            raise _Elsewhere(f"has {total:,} bytes, {part.wanted:,} were wanted")
        if first != part.size:  # it knows no ranges, or sends another one
            part.empty()
            if code == 206:
                raise _Again("sent a range that was not asked for")
        since, had = time.monotonic(), part.size
        for block in answer.iter_raw():  # as they come: gathered ones would be lost with the connection
            if part.size + len(block) > part.most:
                part.empty()
                raise _Elsewhere(f"sends more than {part.most:,} bytes")
            part.add(block)
            told(part.size, total or part.wanted)
            if (now := time.monotonic()) - since >= silence:  # a byte now and then is no better than none
                if part.size - had < SLOWEST * silence:
                    raise _Again(f"brings less than {SLOWEST:,} bytes a second")
                since, had = now, part.size
    whole = total or part.wanted
    if whole is not None and part.size < whole:
        raise _Again(f"sent {part.size:,} of {whole:,} bytes")


def _answer(client: "httpx.Client", request: "httpx.Request") -> "httpx.Response":
    """The answer to a request, whose body is still to come; of redirections the body is never read."""
    for _ in range(MOST_REDIRECTIONS + 1):
        answer = client.send(request, stream=True)
        if answer.next_request is None:
            return answer
        answer.close()
        request = answer.next_request
    raise _Elsewhere(f"leads on more than {MOST_REDIRECTIONS} times")


def _extent(headers: "httpx.Headers") -> tuple[int, int | None]:
    """The first byte of what an answer brings, and the bytes of the whole file if the server says them."""
    if span := headers.get("Content-Range"):
        said = SPAN.fullmatch(span)
        return (int(said[1]), None if said[2] == "*" else int(said[2])) if said else (0, None)
    length = headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch("[0-9]{1,15}", length) else None
