"""Downloads: complete and right files or none, whatever the server does."""

import fcntl
import gzip
import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disks import files_up_to
from moodfield.datasets import download
from moodfield.datasets.download import RetryPolicy
from moodfield.errors import ConfigError, DownloadError, LockedError, OutputError
from servers import Behavior, Request, Server, serve

FILE = np.random.default_rng(1).bytes(3_000_000)
SUM = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(song=FILE) as state:
        yield state


class Pauses(list):
    """What would have been waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(path: Path, *servers: Server, name: str = "song", **more: object) -> Pauses:
    """Fetch, without waiting."""
    pauses = Pauses()
    urls = [f"{server.url}/{name}" for server in servers]
    download.fetch(path, urls, **({"sha256": SUM, "sleep": pauses, "retry": RetryPolicy(attempts=3)} | more))
    return pauses


def refusal(path: Path, *servers: Server, **more: object) -> str:
    """What is said when it cannot be had; the file is not there then."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises((DownloadError, LockedError, OutputError)) as caught:
        fetch(path, *servers, **more)
    assert (path.read_bytes() if path.exists() else None) == before
    return str(caught.value)


def tidy(folder: Path) -> bool:
    """Whether nothing is there but the right file."""
    return {each.name: each.read_bytes() == FILE for each in folder.iterdir()} == {"song": True}


# ---------------------------------------------------------------- had


def test_download_in_one_request(tmp_path, server):
    seen: list[tuple[int, int | None]] = []
    assert fetch(tmp_path / "deep" / "song", server, progress=lambda *now: seen.append(now)) == []
    assert tidy(tmp_path / "deep")
    assert server.requests == [Request("song", None, len(FILE))]
    assert seen[-1] == (len(FILE), len(FILE))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_right_file_is_kept_and_wrong_file_replaced(tmp_path, server):
    (tmp_path / "song").write_bytes(FILE)
    fetch(tmp_path / "song", server)
    assert server.requests == []
    (tmp_path / "song").write_bytes(FILE[:-1])
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_interrupted_connection_is_resumed(tmp_path, server):
    server.queue("song", Behavior(cut=1_000_000), Behavior(cut=1_500_000))
    assert fetch(tmp_path / "song", server) == [1.0, 1.0]
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [None, 1_000_000, 2_500_000]
    assert sum(each.sent for each in server.requests) == len(FILE)


@given(kept=st.integers(0, len(FILE)), cuts=st.lists(st.integers(0, len(FILE)), max_size=2))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_later_run_downloads_only_missing_bytes(tmp_path, kept, cuts):
    (tmp_path / "song").unlink(missing_ok=True)
    (tmp_path / "song.part").write_bytes(FILE[:kept])
    with serve(song=FILE) as server:
        server.queue("song", *(Behavior(cut=cut) for cut in cuts))
        fetch(tmp_path / "song", server)
        assert tidy(tmp_path)
        assert sum(each.sent for each in server.requests) == len(FILE) - kept


def test_complete_partial_file_is_renamed(tmp_path, server):
    """As after a power cut between the last byte and the renaming."""
    (tmp_path / "song.part").write_bytes(FILE)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.requests == []


def test_server_without_ranges_restarts(tmp_path, server):
    (tmp_path / "song.part").write_bytes(FILE[:2_000_000])
    server.always["song"] = Behavior(ranges=False)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.requests == [Request("song", 2_000_000, len(FILE))]


def test_server_without_ranges_that_cuts_is_left_after_some_attempts(tmp_path, server):
    """Where it is cut varies, but nothing new ever comes."""
    server.queue("song", *[Behavior(ranges=False, cut=cut) for cut in (2_000_000, 1_000_000) * 9])
    assert "failed 3 times in a row" in refusal(tmp_path / "song", server)
    assert len(server.requests) == 4


@pytest.mark.parametrize("behavior", [Behavior(shift=1), Behavior(shift=-1), Behavior(shift=-1_000_000)])
def test_wrong_range_is_rejected(tmp_path, server, behavior):
    (tmp_path / "song.part").write_bytes(FILE[:1_000_000])
    server.queue("song", behavior)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [1_000_000, None]


def test_too_long_partial_file_is_deleted(tmp_path, server):
    """It is longer than the file: the server answers 416."""
    (tmp_path / "song.part").write_bytes(FILE + b"more")
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [len(FILE) + 4, None]


def test_short_ranges_are_joined(tmp_path, server):
    (tmp_path / "song.part").write_bytes(FILE[:1_000])
    server.always["song"] = Behavior(max_range=1_000_000)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert len(server.requests) == 3


def test_busy_server_is_retried_with_exponential_pauses(tmp_path, server):
    server.queue(
        "song", Behavior(code=503), Behavior(code=500), Behavior(code=429), Behavior(cut=1_000_000), Behavior(code=503)
    )
    assert fetch(tmp_path / "song", server, retry=RetryPolicy(attempts=4, pause=2.0)) == [2, 4, 8, 2, 2]
    assert tidy(tmp_path)
    server.always["song"] = Behavior(code=503)
    (tmp_path / "song").unlink()
    pauses = Pauses()
    assert "503" in refusal(tmp_path / "song", server, retry=RetryPolicy(attempts=9, pause=8.0), sleep=pauses)
    assert pauses == [8, 16, 32, 60, 60, 60, 60, 60]


def test_redirects_are_followed(tmp_path, server):
    server.queue("old", Behavior(redirect="/song"))
    fetch(tmp_path / "song", server, name="old")
    assert tidy(tmp_path)


def test_next_mirror_after_404(tmp_path, server):
    with serve() as empty:
        fetch(tmp_path / "song", empty, server)
        assert tidy(tmp_path)
        assert len(empty.requests) == 1  # not again and again


def test_next_mirror_resumes_download_of_first(tmp_path, server):
    with serve(song=FILE) as first:
        first.queue("song", Behavior(cut=1_234_567), Behavior(code=404))
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)
    assert server.requests == [Request("song", 1_234_567, len(FILE) - 1_234_567)]


def test_next_mirror_after_wrong_checksum(tmp_path, server):
    with serve(song=FILE) as first:
        first.always["song"] = Behavior(flip=7)
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)


@pytest.mark.parametrize(
    "lie",
    [
        Behavior(headers=(("Content-Range", "bytes \u00b2-1/2"),)),
        Behavior(headers=(("Content-Range", f"bytes 0-1/{'9' * 5_000}"),)),
        Behavior(headers=(("Content-Range", f"bytes {'9' * 5_000}-1/2"),)),
        Behavior(headers=(("Content-Length", "9" * 5_000),)),
        Behavior(redirect=f"http://{'a' * 70}.com/"),
        Behavior(redirect="http://[/"),
        Behavior(redirect="ftp://a/b"),
    ],
)
def test_next_mirror_after_invalid_headers(tmp_path, server, lie):
    with serve(song=FILE) as first:
        first.always["song"] = replace(lie, flip=7)
        fetch(tmp_path / "song", first, server)
        assert first.requests
    assert tidy(tmp_path)


@pytest.mark.parametrize("packed", ["gzip", "GZIP", "gzip, gzip", "deflate"])
def test_compressed_response_is_rejected(tmp_path, server, packed):
    """It was not asked for, and some bytes can hold gigabytes."""
    server.files["bomb"] = gzip.compress(gzip.compress(FILE))
    server.always["bomb"] = Behavior(headers=(("Content-Encoding", packed),))
    reports: list[int] = []
    message = refusal(tmp_path / "song", server, name="bomb", progress=lambda done, _: reports.append(done))
    assert packed.lower() in message
    assert reports == []


def test_body_of_redirect_is_not_read(tmp_path, server):
    server.files["old"] = b"no gzip at all"
    server.queue("old", Behavior(redirect="/song", headers=(("Content-Encoding", "gzip"), ("Content-Length", "14"))))
    fetch(tmp_path / "song", server, name="old")
    assert tidy(tmp_path)


def test_redirect_loop_raises(tmp_path, server):
    server.always["old"] = Behavior(redirect="/old")
    assert "redirects" in refusal(tmp_path / "song", server, name="old")
    assert len(server.requests) == 21


@pytest.mark.parametrize("spoilt", [b"?" + FILE[1:2_000_000], b"waste", bytes(len(FILE) - 1)])
@pytest.mark.parametrize("size", [None, len(FILE)])
def test_damaged_partial_file_is_downloaded_anew(tmp_path, server, spoilt, size):
    """What was kept is hashed again: a byte that the disk lost is noticed, and all is fetched once more."""
    (tmp_path / "song.part").write_bytes(spoilt)
    assert fetch(tmp_path / "song", server, size=size, retry=RetryPolicy(attempts=1)) == []
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [len(spoilt), None]


def test_damaged_partial_file_and_wrong_mirror_take_two_requests(tmp_path, server):
    (tmp_path / "song.part").write_bytes(b"waste")
    server.always["song"] = Behavior(flip=2_000_000)
    assert "checksum" in refusal(tmp_path / "song", server)
    assert list(tmp_path.iterdir()) == []
    assert [each.start for each in server.requests] == [5, None]


def test_wrong_bytes_of_first_mirror_are_replaced_by_next(tmp_path, server):
    with serve(song=FILE) as first:
        first.queue("song", Behavior(flip=7, cut=1_000_000), Behavior(code=404))
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [1_000_000, None]


def test_too_large_announced_size_is_ignored_if_checksum_is_right(tmp_path, server):
    server.always["song"] = Behavior(headers=(("Content-Length", str(len(FILE) + 1)),))
    assert fetch(tmp_path / "song", server) == []
    assert tidy(tmp_path)
    (tmp_path / "song").rename(tmp_path / "song.part")
    (tmp_path / "song.part").write_bytes(FILE[:-9])
    server.always["song"] = Behavior(headers=(("Content-Range", f"bytes {len(FILE) - 9}-{len(FILE)}/{len(FILE) + 1}"),))
    assert fetch(tmp_path / "song", server) == []
    assert tidy(tmp_path)


@pytest.mark.parametrize("behavior", [Behavior(cut=1), Behavior(drip=0.02)])
def test_next_mirror_after_slow_one(tmp_path, server, behavior):
    with serve(song=FILE) as first:
        first.queue("song", *[behavior] * 9)
        fetch(tmp_path / "song", first, server, retry=RetryPolicy(attempts=3, timeout=0.3))
        assert len(first.requests) == 3
    assert tidy(tmp_path)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("flip", [0, 1_234_567, len(FILE) - 1])
def test_wrong_checksum_raises(tmp_path, server, flip):
    server.always["song"] = Behavior(flip=flip)
    message = refusal(tmp_path / "song", server)
    assert "checksum" in message
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_old_file_is_kept_if_download_fails(tmp_path, server):
    (tmp_path / "song").write_bytes(b"old")
    server.always["song"] = Behavior(code=404)
    assert "404" in refusal(tmp_path / "song", server)
    assert (tmp_path / "song").read_bytes() == b"old"


def test_message_lists_failure_of_every_mirror(tmp_path, server):
    with serve() as empty, serve(song=FILE) as wrong:
        wrong.always["song"] = Behavior(flip=7)
        server.always["song"] = Behavior(code=503)
        message = refusal(tmp_path / "song", empty, wrong, server)
        failures = message.split("; ")
        for url, token in ((empty.url, "404"), (wrong.url, "checksum"), (server.url, "503")):
            assert any(url in failure and token in failure for failure in failures)
    assert list(tmp_path.iterdir()) == []


def test_received_bytes_are_kept_if_server_fails(tmp_path, server):
    server.queue("song", Behavior(cut=2_000_000))
    server.always["song"] = Behavior(code=503)
    assert "2,000,000 bytes are kept" in refusal(tmp_path / "song", server)
    server.always.clear()
    server.requests.clear()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.requests == [Request("song", 2_000_000, 1_000_000)]


def test_unreachable_server_raises(tmp_path):
    with serve() as gone:
        pass
    assert "failed 3 times" in refusal(tmp_path / "song", gone)
    assert list(tmp_path.iterdir()) == []


def test_silent_server_times_out(tmp_path, server):
    server.queue("song", Behavior(stall=2))
    pauses = fetch(tmp_path / "song", server, retry=RetryPolicy(attempts=2, timeout=0.2))
    assert pauses == [1.0]
    assert tidy(tmp_path)


def test_wrong_size_raises_before_download(tmp_path, server):
    assert "3,000,000 bytes" in refusal(tmp_path / "song", server, size=len(FILE) - 1)
    assert sum(each.sent for each in server.requests) <= len(FILE)
    fetch(tmp_path / "song", server, size=len(FILE))
    assert tidy(tmp_path)


def test_response_without_length_is_limited(tmp_path, server):
    server.always["song"] = Behavior(length=False)
    assert "1,000,000 bytes" in refusal(tmp_path / "song", server, size=1_000_000)
    assert "1,000,000 bytes" in refusal(tmp_path / "song", server, max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_interruption_is_noticed_by_given_size(tmp_path, server):
    server.queue("song", Behavior(length=False, cut=1_000_000))
    fetch(tmp_path / "song", server, size=len(FILE))
    assert tidy(tmp_path)
    assert [each.start for each in server.requests] == [None, 1_000_000]


def test_full_disk_raises_and_keeps_received_bytes(tmp_path, server):
    with files_up_to(1_000_000):
        message = refusal(tmp_path / "song", server)
    assert "File too large" in message
    assert "disk space" in message
    kept = (tmp_path / "song.part").read_bytes()
    assert 500_000 < len(kept) <= 1_000_000
    assert kept == FILE[: len(kept)]
    server.requests.clear()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.requests == [Request("song", len(kept), len(FILE) - len(kept))]


def test_unwritable_path_raises(tmp_path, server):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(tmp_path / "file" / "song", server)


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with download.lock(path):
        ready.set()
        done.wait(20)


def test_lock_of_other_process_raises(tmp_path, server):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "song", ready, done))
    other.start()
    assert ready.wait(20)
    assert f"is in use by process {other.pid} " in refusal(tmp_path / "song", server)
    assert server.requests == []
    done.set()
    other.join(20)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_stale_lock_file_is_ignored(tmp_path, server):
    (tmp_path / "song.lock").touch()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_lock_is_held_until_file_is_renamed(tmp_path, server, monkeypatch):
    replaced, second = Path.replace, []

    def late(half: Path, path: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replaced)
        second.append(refusal(path, server))
        return replaced(half, path)

    monkeypatch.setattr(Path, "replace", late)
    fetch(tmp_path / "song", server)
    assert f"is in use by process {os.getpid()}" in second[0]
    assert tidy(tmp_path)
    assert len(server.requests) == 1


def test_lock_file_removed_while_opening_is_locked_anew(tmp_path, monkeypatch):
    """Whoever had it left between our opening and our locking."""
    flock = fcntl.flock

    def late(file: object, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / "song.lock").unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with download.lock(tmp_path / "song"), pytest.raises(LockedError), download.lock(tmp_path / "song"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_errors_do_not_mention_disk_space(tmp_path, server, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(FileNotFoundError(2, "No such file")))
    message = refusal(tmp_path / "song", server)
    assert "No such file" in message
    assert "disk space" not in message


def test_stopped_download_resumes(tmp_path, server):
    def stop(done: int, _: int | None) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "song", server, progress=stop)
    kept = (tmp_path / "song.part").stat().st_size
    assert 1_000_000 < kept < 2_000_000
    server.requests.clear()
    fetch(tmp_path / "song", server)
    assert server.requests == [Request("song", kept, len(FILE) - kept)]


@pytest.mark.parametrize("addresses", [[], ["ftp://a/b"], ["file:///etc/passwd"], ["https://a/b", "a/b"]])
def test_urls_of_other_schemes_raise(tmp_path, addresses):
    with pytest.raises(ConfigError, match="https://"):
        download.fetch(tmp_path / "song", addresses, sha256=SUM)


@pytest.mark.parametrize("address", ["http://a:b:c/", "http://[/", "http://\x00/"])
def test_invalid_url_raises(tmp_path, address):
    with pytest.raises(DownloadError):
        download.fetch(tmp_path / "song", [address], sha256=SUM, retry=RetryPolicy(attempts=1))


@pytest.mark.parametrize("change", [{"attempts": 0}, {"pause": -1.0}, {"timeout": 0.0}])
def test_retry_policy_out_of_range_raises(change):
    with pytest.raises(ConfigError, match="attempts"):
        replace(RetryPolicy(), **change)
