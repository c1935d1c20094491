"""HTTP downloads that resume, retry, change mirrors and check SHA-256 before a file gets its name.

Received bytes are kept beside the file as `NAME.part`, so that the next attempt, or the next run, resumes there.
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
MAX_BYTES = 2**34
"""largest download whose size is not known; a server may send no more"""
MAX_REDIRECTS = 20
"""redirects in a row"""
MIN_PROGRESS = 1_000_000
"""bytes that attempts in a row must add, or the next mirror is tried"""
MIN_RATE = 1_000
"""bytes per second below which a connection is closed"""
MAX_PAUSE = 60.0
"""longest pause between two attempts in seconds"""
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""error numbers of a full disk"""
TEMPORARY = frozenset({408, 425, 429})
"""status codes after which a request is repeated, beside all from 500 on"""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
"""header of a partial response: its first byte, and the size of the whole file"""

ProgressCallback = Callable[[int, int | None], None]
"""called with the bytes received so far, and the size of the file if it is known; may raise to stop"""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after which pauses, a download from one mirror is attempted."""

    attempts: int = 5
    """attempts in a row that add less than a megabyte, 1 or more; then the next mirror is tried"""
    pause: float = 1.0
    """seconds before the second attempt, 0 or more; doubled before every further one"""
    timeout: float = 30.0
    """seconds without a byte, or with hardly any, after which a connection is closed; above 0"""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause < 0 or self.timeout <= 0:
            raise ConfigError(f"{self}; expected attempts of at least 1, a pause of at least 0 s, a timeout above 0 s")


@dataclass(frozen=True)
class _Options:
    """How a file is downloaded."""

    retry: RetryPolicy
    sleep: Callable[[float], object]
    progress: ProgressCallback


def fetch(
    path: Path,
    urls: Sequence[str],
    *,
    sha256: str,
    size: int | None = None,
    max_bytes: int = MAX_BYTES,
    retry: RetryPolicy | None = None,
    sleep: Callable[[float], object] = time.sleep,
    progress: ProgressCallback = lambda *_: None,
) -> None:
    """Download a file from the first mirror that has it, unless the right file is already there.

    Interrupted connections and busy servers are tried again, from the last received byte if the server supports
    ranges. Bytes are hashed as they arrive; a file with another checksum is deleted. A wrong file at `path` is replaced
    once the right one is complete.

    Args:
        path: Where to write the file; missing folders are created.
        urls: Mirrors of the file, `https://` or `http://`, in the order in which they are tried.
        sha256: Checksum of the file in hexadecimal digits.
        size: Bytes of the file, if known.
        max_bytes: Most bytes to accept if the size is not known.
        retry: How often to try.
        sleep: Called with the seconds of a pause; may raise to stop.
        progress: Called for every received block.

    Raises:
        DownloadError: No mirror has the file (the message has the failure of each), or it cannot be written; bytes
            received so far are kept.
        LockedError: Another process downloads the same file.
        ConfigError: There are no URLs, or other ones than of the web.

    """
    invalid = [url for url in urls if not url.startswith(("https://", "http://"))]
    if invalid or not urls:
        raise ConfigError(f"{path.name} has the URLs {invalid or 'none'}; expected https:// or http://")
    try:
        if _is_complete(path, sha256):
            return
        partial_path = path.with_name(f"{path.name}.part")
        with lock(path):
            if _is_complete(path, sha256):  # another process was faster
                return
            with partial_path.open("a+b") as file:
                part = _PartialFile(file, sha256, size, max_bytes)
                faults = _try_mirrors(urls, part, _Options(retry or RetryPolicy(), sleep, progress))
                file.flush()
                os.fsync(file.fileno())
            if not faults:
                partial_path.replace(path)
                return
            if not part.size:
                partial_path.unlink()
    except OSError as error:
        raise DownloadError(f"{path} cannot be written: {os_error_hint(error, 'received bytes are kept')}") from error
    kept = f"the first {part.size:,} bytes are kept; " if part.size else ""
    raise DownloadError(f"{path.name} could not be downloaded: {'; '.join(faults)}; {kept}try later, or another mirror")


def lock(path: Path) -> AbstractContextManager[None]:
    """Hold `NAME.lock` beside a file while it is downloaded.

    Raises:
        LockedError: Another process or thread holds it.

    """
    return files.lock(path.with_name(f"{path.name}.lock"), what=f"the download of {path}")


def os_error_hint(error: OSError, kept: str) -> str:
    """Format why something could not be written, what is kept, and what to do.

    Example:
        >>> os_error_hint(OSError(errno.ENOSPC, "No space left on device"), "received bytes are kept")
        'No space left on device; received bytes are kept: free some disk space and try again'

    """
    remedy = "free some disk space" if error.errno in DISK_FULL else "correct that"
    return f"{error.strerror or error}; {kept}: {remedy} and try again"


class _PartialFile:
    """The received bytes of a file, on disk, with their digest."""

    def __init__(self, file: IO[bytes], sha256: str, size: int | None, max_bytes: int) -> None:
        self._file, self._sha256, self.expected_size = file, sha256, size
        self.max_bytes = max_bytes if size is None else size
        self.inherited = False
        """whether its first bytes are from an earlier run, or another mirror"""
        self._digest, self.size = hashlib.sha256(), 0
        file.seek(0)
        while block := file.read(BLOCK):
            self._update(block)

    @property
    def complete(self) -> bool:
        """Whether the received bytes have the expected checksum."""
        return self._digest.hexdigest() == self._sha256

    def append(self, block: bytes) -> None:
        """Append received bytes."""
        self._file.write(block)  # opened to append
        self._update(block)

    def clear(self) -> None:
        """Delete all received bytes."""
        self._file.truncate(0)
        self._digest, self.size, self.inherited = hashlib.sha256(), 0, False

    def _update(self, block: bytes) -> None:
        self._digest.update(block)
        self.size += len(block)


class _AttemptError(Exception):
    """An attempt failed; the next one may succeed."""


class _MirrorError(Exception):
    """A mirror cannot provide the file."""


def _is_complete(path: Path, sha256: str) -> bool:
    """Whether the right file exists."""
    return path.is_file() and files.sha256(path) == sha256


def _try_mirrors(urls: Sequence[str], part: _PartialFile, options: _Options) -> list[str]:
    """Complete the partial file from one mirror after another; returns the failures of all, or nothing on success."""
    import httpx

    if part.complete:
        return []
    faults = []
    with httpx.Client(timeout=options.retry.timeout) as client:
        for url in urls:
            try:
                _download(client, url, part, options)
            except _MirrorError as error:
                faults.append(f"{url} {error}")
            else:
                return []
    return faults


def _download(client: "httpx.Client", url: str, part: _PartialFile, options: _Options) -> None:
    """Complete the partial file from one mirror, in as many attempts as make progress."""
    import httpx

    failures, furthest, part.inherited = 0, part.size, part.size > 0
    while True:
        try:
            _attempt(client, url, part, options)
            break
        except (_AttemptError, httpx.RequestError) as error:
            if part.complete:  # although the server announced more
                return
            # Progress beyond the furthest byte so far: a server without ranges that cuts early would never end.
            failures = 0 if part.size >= furthest + MIN_PROGRESS else failures + 1
            furthest = furthest if failures else part.size
            if failures >= options.retry.attempts:
                raise _MirrorError(f"failed {failures} times in a row: {error or type(error).__name__}") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise _MirrorError(f"is not a valid URL, or redirects to none: {error}") from error
        options.sleep(min(options.retry.pause * 2 ** max(0, failures - 1), MAX_PAUSE))
    if part.complete:
        return
    inherited = part.inherited
    part.clear()
    if not inherited:
        raise _MirrorError("sent a file with another checksum, which was deleted")
    # the wrong bytes may be inherited ones: once more, from the first byte
    _download(client, url, part, options)


def _attempt(client: "httpx.Client", url: str, part: _PartialFile, options: _Options) -> None:
    """Request the missing bytes once, and append them."""
    headers = {"Accept-Encoding": "identity"}  # ranges of a compressed file could not be joined
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    timeout = options.retry.timeout
    with closing(_send(client, client.build_request("GET", url, headers=headers))) as response:
        total = _check_response(response, part)
        since, size_before = time.monotonic(), part.size
        for block in response.iter_raw():  # as they arrive: buffered ones would be lost with the connection
            if part.size + len(block) > part.max_bytes:
                part.clear()
                raise _MirrorError(f"sends more than {part.max_bytes:,} bytes")
            part.append(block)
            options.progress(part.size, total)
            if (now := time.monotonic()) - since >= timeout:  # a read timeout does not notice a byte now and then
                if part.size - size_before < MIN_RATE * timeout:
                    raise _AttemptError(f"sends less than {MIN_RATE:,} bytes per second")
                since, size_before = now, part.size
    if total is not None and part.size < total:
        raise _AttemptError(f"sent {part.size:,} of {total:,} bytes")


def _check_response(response: "httpx.Response", part: _PartialFile) -> int | None:
    """The size of the file if it is known; raises if the response does not continue the partial file."""
    code, (first, total) = response.status_code, _content_range(response.headers)
    if code == 416:  # the partial file is longer than the file
        part.clear()
        raise _AttemptError("cannot resume: the partial file is too long")
    if code in TEMPORARY or code >= 500:
        raise _AttemptError(f"responded with status {code}")
    if code not in (200, 206):
        raise _MirrorError(f"responded with status {code}")
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise _MirrorError(f"uses the content encoding {encoding}, which was not requested")  # a decompression bomb?
    if part.expected_size is not None and total is not None and total != part.expected_size:
        raise _MirrorError(f"has {total:,} bytes; expected {part.expected_size:,}")
    if first != part.size:  # no support of ranges, or another range
        part.clear()
        if code == 206:
            raise _AttemptError("sent a range that was not requested")
    return total or part.expected_size


def _send(client: "httpx.Client", request: "httpx.Request") -> "httpx.Response":
    """The response to a request, its body not yet read; bodies of redirects are never read."""
    for _ in range(MAX_REDIRECTS + 1):
        response = client.send(request, stream=True)
        if response.next_request is None:
            return response
        response.close()
        request = response.next_request
    raise _MirrorError(f"redirects more than {MAX_REDIRECTS} times")


def _content_range(headers: "httpx.Headers") -> tuple[int, int | None]:
    """The first byte of a response, and the size of the whole file if the server gives it."""
    if header := headers.get("Content-Range"):
        match = CONTENT_RANGE.fullmatch(header)
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else (0, None)
    length = headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch("[0-9]{1,15}", length) else None
