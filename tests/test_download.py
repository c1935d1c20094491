"""Files of the internet: whole and right or not there at all, whatever the server does."""

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
from moodfield.errors import ConfigError, DownloadError, LockedError
from servers import Asked, Manner, Server, serving

FILE = np.random.default_rng(1).bytes(3_000_000)
SUM = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(song=FILE) as state:
        yield state


class Pauses(list):
    """What would have been waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(path: Path, *servers: Server, name: str = "song", **more: object) -> Pauses:
    """Fetch, without waiting."""
    pauses = Pauses()
    addresses = [f"{each.address}/{name}" for each in servers]
    download.fetch(path, addresses, **({"sha256": SUM, "wait": pauses, "patience": RetryPolicy(tries=3)} | more))
    return pauses


def refusal(path: Path, *servers: Server, **more: object) -> str:
    """What is said when it cannot be had; the file is not there then."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises((DownloadError, LockedError)) as caught:
        fetch(path, *servers, **more)
    assert (path.read_bytes() if path.exists() else None) == before
    return str(caught.value)


def tidy(folder: Path) -> bool:
    """Whether nothing is there but the right file."""
    return {each.name: each.read_bytes() == FILE for each in folder.iterdir()} == {"song": True}


# ---------------------------------------------------------------- had


def test_a_file_is_fetched_in_one_go(tmp_path, server):
    seen: list[tuple[int, int | None]] = []
    assert fetch(tmp_path / "deep" / "song", server, told=lambda *now: seen.append(now)) == []
    assert tidy(tmp_path / "deep")
    assert server.asked == [Asked("song", None, len(FILE))]
    assert seen[-1] == (len(FILE), len(FILE))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_is_there_is_not_fetched_again_but_a_wrong_one_is(tmp_path, server):
    (tmp_path / "song").write_bytes(FILE)
    fetch(tmp_path / "song", server)
    assert server.asked == []
    (tmp_path / "song").write_bytes(FILE[:-1])
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_a_cut_connection_is_taken_up_where_it_broke(tmp_path, server):
    server.behave("song", Manner(cut=1_000_000), Manner(cut=1_500_000))
    assert fetch(tmp_path / "song", server) == [1.0, 1.0]
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [None, 1_000_000, 2_500_000]
    assert sum(each.sent for each in server.asked) == len(FILE)


@given(kept=st.integers(0, len(FILE)), cuts=st.lists(st.integers(0, len(FILE)), max_size=2))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_later_run_fetches_no_more_than_is_missing(tmp_path, kept, cuts):
    (tmp_path / "song").unlink(missing_ok=True)
    (tmp_path / "song.part").write_bytes(FILE[:kept])
    with serving(song=FILE) as server:
        server.behave("song", *(Manner(cut=cut) for cut in cuts))
        fetch(tmp_path / "song", server)
        assert tidy(tmp_path)
        assert sum(each.sent for each in server.asked) == len(FILE) - kept


def test_a_whole_part_needs_only_its_name(tmp_path, server):
    """As after a power cut between the last byte and the renaming."""
    (tmp_path / "song.part").write_bytes(FILE)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.asked == []


def test_a_server_without_ranges_begins_anew(tmp_path, server):
    (tmp_path / "song.part").write_bytes(FILE[:2_000_000])
    server.always["song"] = Manner(ranges=False)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.asked == [Asked("song", 2_000_000, len(FILE))]


def test_without_ranges_and_with_cuts_it_ends(tmp_path, server):
    """Where it is cut varies, but nothing new ever comes."""
    server.behave("song", *[Manner(ranges=False, cut=cut) for cut in (2_000_000, 1_000_000) * 9])
    assert "failed 3 times in a row" in refusal(tmp_path / "song", server)
    assert len(server.asked) == 4


@pytest.mark.parametrize("manner", [Manner(shift=1), Manner(shift=-1), Manner(shift=-1_000_000)])
def test_a_range_that_was_not_asked_for_is_not_taken(tmp_path, server, manner):
    (tmp_path / "song.part").write_bytes(FILE[:1_000_000])
    server.behave("song", manner)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [1_000_000, None]


def test_a_part_of_another_file_is_thrown_away(tmp_path, server):
    """It is longer than the file: the server answers 416."""
    (tmp_path / "song.part").write_bytes(FILE + b"more")
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [len(FILE) + 4, None]


def test_ranges_may_come_in_pieces(tmp_path, server):
    (tmp_path / "song.part").write_bytes(FILE[:1_000])
    server.always["song"] = Manner(most=1_000_000)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert len(server.asked) == 3


def test_a_busy_server_is_asked_again_after_longer_and_longer_pauses(tmp_path, server):
    server.behave("song", Manner(code=503), Manner(code=500), Manner(code=429), Manner(cut=1_000_000), Manner(code=503))
    assert fetch(tmp_path / "song", server, patience=RetryPolicy(tries=4, pause=2.0)) == [2, 4, 8, 2, 2]
    assert tidy(tmp_path)
    server.always["song"] = Manner(code=503)
    (tmp_path / "song").unlink()
    pauses = Pauses()
    assert "answered 503" in refusal(tmp_path / "song", server, patience=RetryPolicy(tries=9, pause=8.0), wait=pauses)
    assert pauses == [8, 16, 32, 60, 60, 60, 60, 60]


def test_redirections_are_followed(tmp_path, server):
    server.behave("old", Manner(to="/song"))
    fetch(tmp_path / "song", server, name="old")
    assert tidy(tmp_path)


def test_the_next_mirror_is_asked_when_one_does_not_have_it(tmp_path, server):
    with serving() as empty:
        fetch(tmp_path / "song", empty, server)
        assert tidy(tmp_path)
        assert len(empty.asked) == 1  # not again and again


def test_the_next_mirror_goes_on_from_what_the_first_brought(tmp_path, server):
    with serving(song=FILE) as first:
        first.behave("song", Manner(cut=1_234_567), Manner(code=404))
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)
    assert server.asked == [Asked("song", 1_234_567, len(FILE) - 1_234_567)]


def test_a_mirror_with_a_wrong_file_is_left_for_the_next(tmp_path, server):
    with serving(song=FILE) as first:
        first.always["song"] = Manner(flip=7)
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)


@pytest.mark.parametrize(
    "lie",
    [
        Manner(says=(("Content-Range", "bytes \u00b2-1/2"),)),
        Manner(says=(("Content-Range", f"bytes 0-1/{'9' * 5_000}"),)),
        Manner(says=(("Content-Range", f"bytes {'9' * 5_000}-1/2"),)),
        Manner(says=(("Content-Length", "9" * 5_000),)),
        Manner(to=f"http://{'a' * 70}.com/"),
        Manner(to="http://[/"),
        Manner(to="ftp://a/b"),
    ],
)
def test_whatever_a_server_says_of_itself_the_next_mirror_helps(tmp_path, server, lie):
    with serving(song=FILE) as first:
        first.always["song"] = replace(lie, flip=7)
        fetch(tmp_path / "song", first, server)
        assert first.asked
    assert tidy(tmp_path)


@pytest.mark.parametrize("packed", ["gzip", "GZIP", "gzip, gzip", "deflate"])
def test_what_comes_compressed_is_never_unpacked(tmp_path, server, packed):
    """It was not asked for, and some bytes can hold gigabytes."""
    server.files["bomb"] = gzip.compress(gzip.compress(FILE))
    server.always["bomb"] = Manner(says=(("Content-Encoding", packed),))
    told: list[int] = []
    message = refusal(tmp_path / "song", server, name="bomb", told=lambda done, _: told.append(done))
    assert f"sends it as {packed.lower()}, which was not asked for" in message
    assert told == []


def test_what_a_redirection_brings_is_not_read(tmp_path, server):
    server.files["old"] = b"no gzip at all"
    server.behave("old", Manner(to="/song", says=(("Content-Encoding", "gzip"), ("Content-Length", "14"))))
    fetch(tmp_path / "song", server, name="old")
    assert tidy(tmp_path)


def test_a_circle_of_redirections_ends(tmp_path, server):
    server.always["old"] = Manner(to="/old")
    assert "leads on more than 20 times" in refusal(tmp_path / "song", server, name="old")
    assert len(server.asked) == 21


@pytest.mark.parametrize("spoilt", [b"?" + FILE[1:2_000_000], b"waste", bytes(len(FILE) - 1)])
@pytest.mark.parametrize("size", [None, len(FILE)])
def test_a_spoilt_part_is_not_blamed_on_the_server(tmp_path, server, spoilt, size):
    """What was kept is hashed again: a byte that the disk lost is noticed, and all is fetched once more."""
    (tmp_path / "song.part").write_bytes(spoilt)
    assert fetch(tmp_path / "song", server, size=size, patience=RetryPolicy(tries=1)) == []
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [len(spoilt), None]


def test_a_spoilt_part_and_a_wrong_server_are_asked_twice_and_no_more(tmp_path, server):
    (tmp_path / "song.part").write_bytes(b"waste")
    server.always["song"] = Manner(flip=2_000_000)
    assert "another checksum, which was thrown away" in refusal(tmp_path / "song", server)
    assert list(tmp_path.iterdir()) == []
    assert [each.start for each in server.asked] == [5, None]


def test_what_a_bad_mirror_left_is_not_blamed_on_the_next(tmp_path, server):
    with serving(song=FILE) as first:
        first.behave("song", Manner(flip=7, cut=1_000_000), Manner(code=404))
        fetch(tmp_path / "song", first, server)
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [1_000_000, None]


def test_a_server_that_promises_more_than_there_is_has_sent_it_all(tmp_path, server):
    server.always["song"] = Manner(says=(("Content-Length", str(len(FILE) + 1)),))
    assert fetch(tmp_path / "song", server) == []
    assert tidy(tmp_path)
    (tmp_path / "song").rename(tmp_path / "song.part")
    (tmp_path / "song.part").write_bytes(FILE[:-9])
    server.always["song"] = Manner(says=(("Content-Range", f"bytes {len(FILE) - 9}-{len(FILE)}/{len(FILE) + 1}"),))
    assert fetch(tmp_path / "song", server) == []
    assert tidy(tmp_path)


@pytest.mark.parametrize("manner", [Manner(cut=1), Manner(drip=0.02)])
def test_a_mirror_that_drips_is_left_for_the_next(tmp_path, server, manner):
    with serving(song=FILE) as first:
        first.behave("song", *[manner] * 9)
        fetch(tmp_path / "song", first, server, patience=RetryPolicy(tries=3, silence=0.3))
        assert len(first.asked) == 3
    assert tidy(tmp_path)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("flip", [0, 1_234_567, len(FILE) - 1])
def test_a_flipped_byte_never_gets_the_name(tmp_path, server, flip):
    server.always["song"] = Manner(flip=flip)
    message = refusal(tmp_path / "song", server)
    assert "another checksum, which was thrown away" in message
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_a_wrong_file_that_was_there_stays_until_there_is_a_right_one(tmp_path, server):
    (tmp_path / "song").write_bytes(b"old")
    server.always["song"] = Manner(code=404)
    assert "answered 404; try again later, or name another source" in refusal(tmp_path / "song", server)
    assert (tmp_path / "song").read_bytes() == b"old"


def test_what_became_of_every_mirror_is_said(tmp_path, server):
    with serving() as empty, serving(song=FILE) as wrong:
        wrong.always["song"] = Manner(flip=7)
        server.always["song"] = Manner(code=503)
        message = refusal(tmp_path / "song", empty, wrong, server)
        assert message == (
            f"song could not be fetched: {empty.address}/song answered 404; "
            f"{wrong.address}/song sent a file with another checksum, which was thrown away; "
            f"{server.address}/song failed 3 times in a row: answered 503; try again later, or name another source"
        )
    assert list(tmp_path.iterdir()) == []


def test_what_has_come_is_kept_when_the_server_goes(tmp_path, server):
    server.behave("song", Manner(cut=2_000_000))
    server.always["song"] = Manner(code=503)
    assert "the first 2,000,000 bytes are kept, try again later" in refusal(tmp_path / "song", server)
    server.always.clear()
    server.asked.clear()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.asked == [Asked("song", 2_000_000, 1_000_000)]


def test_a_server_that_is_not_there_is_refused(tmp_path):
    with serving() as gone:
        pass
    assert "failed 3 times in a row: " in refusal(tmp_path / "song", gone)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_given_up(tmp_path, server):
    server.behave("song", Manner(stall=2))
    pauses = fetch(tmp_path / "song", server, patience=RetryPolicy(tries=2, silence=0.2))
    assert pauses == [1.0]
    assert tidy(tmp_path)


def test_a_file_of_another_size_is_not_even_begun(tmp_path, server):
    assert "has 3,000,000 bytes, 2,999,999 were wanted" in refusal(tmp_path / "song", server, size=len(FILE) - 1)
    assert sum(each.sent for each in server.asked) <= len(FILE)
    fetch(tmp_path / "song", server, size=len(FILE))
    assert tidy(tmp_path)


def test_a_server_that_says_no_length_is_believed_no_further_than_the_size(tmp_path, server):
    server.always["song"] = Manner(length=False)
    assert "sends more than 1,000,000 bytes" in refusal(tmp_path / "song", server, size=1_000_000)
    assert "sends more than 1,000,000 bytes" in refusal(tmp_path / "song", server, most=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_that_only_the_size_betrays_is_taken_up(tmp_path, server):
    server.behave("song", Manner(length=False, cut=1_000_000))
    fetch(tmp_path / "song", server, size=len(FILE))
    assert tidy(tmp_path)
    assert [each.start for each in server.asked] == [None, 1_000_000]


def test_a_full_disk_is_refused_and_what_has_come_is_kept(tmp_path, server):
    with files_up_to(1_000_000):
        message = refusal(tmp_path / "song", server)
    assert message.startswith(f"{tmp_path}/song cannot be written: File too large; what has come is kept: make room")
    kept = (tmp_path / "song.part").read_bytes()
    assert 500_000 < len(kept) <= 1_000_000
    assert kept == FILE[: len(kept)]
    server.asked.clear()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)
    assert server.asked == [Asked("song", len(kept), len(FILE) - len(kept))]


def test_a_place_that_cannot_be_written_is_refused(tmp_path, server):
    (tmp_path / "file").write_text("")
    assert "cannot be written: File exists" in refusal(tmp_path / "file" / "song", server)


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with download.lock(path):
        ready.set()
        done.wait(20)


def test_two_processes_do_not_write_one_part(tmp_path, server):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "song", ready, done))
    other.start()
    assert ready.wait(20)
    assert f"is in use by process {other.pid} " in refusal(tmp_path / "song", server)
    assert server.asked == []
    done.set()
    other.join(20)
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_a_lock_that_a_killed_process_left_holds_nobody_up(tmp_path, server):
    (tmp_path / "song.lock").touch()
    fetch(tmp_path / "song", server)
    assert tidy(tmp_path)


def test_nobody_comes_between_the_last_byte_and_the_name(tmp_path, server, monkeypatch):
    replaced, second = Path.replace, []

    def late(half: Path, path: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replaced)
        second.append(refusal(path, server))
        return replaced(half, path)

    monkeypatch.setattr(Path, "replace", late)
    fetch(tmp_path / "song", server)
    assert f"is in use by process {os.getpid()}" in second[0]
    assert tidy(tmp_path)
    assert len(server.asked) == 1


def test_a_lock_that_was_just_taken_away_keeps_nobody_out_and_is_taken_anew(tmp_path, monkeypatch):
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


def test_room_is_only_asked_for_where_there_is_none(tmp_path, server, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(FileNotFoundError(2, "No such file")))
    assert "cannot be written: No such file; what has come is kept: mend that" in refusal(tmp_path / "song", server)


def test_it_can_be_stopped_at_any_block_and_goes_on(tmp_path, server):
    def stop(done: int, _: int | None) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "song", server, told=stop)
    kept = (tmp_path / "song.part").stat().st_size
    assert 1_000_000 < kept < 2_000_000
    server.asked.clear()
    fetch(tmp_path / "song", server)
    assert server.asked == [Asked("song", kept, len(FILE) - kept)]


@pytest.mark.parametrize("addresses", [[], ["ftp://a/b"], ["file:///etc/passwd"], ["https://a/b", "a/b"]])
def test_only_addresses_of_the_web_are_asked(tmp_path, addresses):
    with pytest.raises(ConfigError, match="wanted https:// or http://"):
        download.fetch(tmp_path / "song", addresses, sha256=SUM)


@pytest.mark.parametrize("address", ["http://a:b:c/", "http://[/", "http://\x00/"])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises(DownloadError):
        download.fetch(tmp_path / "song", [address], sha256=SUM, patience=RetryPolicy(tries=1))


@pytest.mark.parametrize("change", [{"tries": 0}, {"pause": -1.0}, {"silence": 0.0}])
def test_patience_has_a_range(change):
    with pytest.raises(ConfigError, match="wanted tries of at least 1"):
        replace(RetryPolicy(), **change)
