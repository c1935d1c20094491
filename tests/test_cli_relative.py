"""The command `tag` with decisions relative to all files, and with how much more likely than usual tags are."""

import json
import os
import pty
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import models
import moodfield
import reports
from commands import Result, invoke, json_lines, start
from moodfield import tagger
from moodfield.audio import Envelope
from moodfield.cli import taggings
from moodfield.decisions import Usual
from moodfield.errors import AudioError, MoodfieldError
from moodfield.report.track import COARSE
from moodfield.tagging import OverTime, Tagging

TAGS = ("calm", "happy", "film", "dark")
KEYS = ["source", "duration", "model", "decided", "moods", "themes", "relative", "scores", "times_usual", "evidence",
        "thresholds", "priors"]  # fmt: skip
"""of a line of JSON, in their order"""


def tagging(path: Path, *, priors: bool = True) -> Tagging:
    """A track whose scores depend on the number in its name; `film` is decided for all, `dark` for none."""
    drawn = np.random.default_rng(int(path.stem))
    scores = np.array([*drawn.uniform(0.05, 0.4, 2), drawn.uniform(0.6, 0.9), 0.02], np.float32)
    return Tagging(
        source=str(path),
        duration=100.0,
        model="m",
        vocabulary=TAGS,
        theme_vocabulary=("film",),
        scores=scores,
        thresholds=np.array([0.3, 0.3, 0.5, np.inf], np.float32),
        over_time=OverTime(np.array([1, 2], np.float32), np.stack([scores, scores], axis=1)),
        priors=np.array([0.1, 0.1, 0.1, 0.1], np.float32) if priors else None,
        embedding=scores[:2],
        envelope=Envelope(0.1, np.ones(9, np.float32)),
    )


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 25 files with taggings of their own; an empty file fails."""

    def tag_files(paths: list[Path], *_: object, **__: object) -> Iterator[tuple[Path, Tagging | MoodfieldError]]:
        for path in paths:
            yield path, tagging(path) if path.stat().st_size else AudioError("empty", f"{path} is empty")

    monkeypatch.setattr(tagger, "tag_files", tag_files)
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(25):
        (folder / f"{number:02}.wav").write_bytes(b"music")
    return folder


def shorten(folder: Path, files: int, *, failing: int = 0) -> None:
    """Leave this many files, of which the first ones fail."""
    paths = sorted(folder.iterdir())
    for path in paths[files:]:
        path.unlink()
    for path in paths[:failing]:
        path.write_bytes(b"")


def expected(folder: Path) -> list[Tagging]:
    return moodfield.decide([tagging(path) for path in sorted(folder.iterdir()) if path.stat().st_size])


# ---------------------------------------------------------------- relative decisions


def test_relative_json_has_the_decisions_of_decide(library):
    result = invoke("tag", library, "--relative", "--json")
    assert (result.code, result.err) == (0, "")
    assert json_lines(result.out) == [json.loads(json.dumps(each.to_dict())) for each in expected(library)]
    assert all(line["relative"] is True for line in json_lines(result.out))
    assert any(line["decided"] != list(tagging(Path(line["source"])).decided) for line in json_lines(result.out))


def test_json_has_one_schema(library):
    for words, relative in (((), False), (("--relative",), True)):
        for line in json_lines(invoke("tag", library, "--json", *words).out):
            assert list(line) == KEYS
            assert line["relative"] is relative
            assert list(line["times_usual"]) == list(TAGS)


def test_the_relative_table_has_the_decisions_of_decide(library):
    result = invoke("tag", library, "--relative")
    assert (result.code, result.err) == (0, "")
    head, *rows = result.out.splitlines()
    assert "moods" in head
    for row, each in zip(rows, expected(library), strict=True):
        assert row.split()[0] == Path(each.source).name
        assert set(re.findall(r"[a-z]+", row[46:])) == set(each.decided)


def test_scores_over_time_are_kept_only_if_they_are_printed(library):
    lines = json_lines(invoke("tag", library, "--relative", "--json", "--over-time").out)
    assert all(len(line["over_time"]["seconds"]) == 2 for line in lines)


def test_little_is_kept_of_many_files(library, monkeypatch):
    kept, whole = [], moodfield.decide

    def decide(tracks):
        kept.extend(tracks)
        return whole(tracks)

    monkeypatch.setattr("moodfield.tagging.decide", decide)
    assert invoke("tag", library, "--relative", "--json").code == 0
    assert len(kept) == 25
    for each in kept:
        assert each.over_time.scores.size == each.over_time.seconds.size == 0
        assert each.over_time.scores.base is None
        assert each.envelope is each.embedding is None
        assert all(getattr(each, name) is getattr(kept[0], name) for name in taggings.SHARED)


@pytest.mark.parametrize("form", [(), ("--json", "--over-time")])
def test_a_report_of_many_files_keeps_coarse_scores(library, monkeypatch, form):
    kept, whole = [], moodfield.decide
    monkeypatch.setattr("moodfield.report.track.MANY_TRACKS", 10)
    monkeypatch.setattr("moodfield.tagging.decide", lambda tracks: [kept.extend(tracks), whole(tracks)][1])
    page = library.parent / "page.html"
    assert invoke("tag", library, "--relative", *form, "--report", page).code == 0
    steps = {each.over_time.seconds.size for each in kept}
    assert steps == ({2} if form else {COARSE.steps})  # scores over time that are printed are whole
    assert all(each.embedding is None for each in kept)
    assert len(reports.read_data(page.read_text(encoding="utf-8"))["tracks"]) == 25


@pytest.mark.parametrize("files", [1, 19])
def test_too_few_files_are_a_usage_error_before_tagging(library, monkeypatch, files):
    shorten(library, files)
    monkeypatch.setattr(tagger, "tag_files", lambda *_, **__: pytest.fail("it began"))
    result = invoke("tag", library, "--relative", "--report", library.parent / "page.html")
    assert (result.code, result.out) == (2, "")
    assert f"{files} w" in result.err
    assert len(result.err.splitlines()) == 1
    assert not (library.parent / "page.html").exists()


def test_twenty_files_are_enough(library):
    shorten(library, 20)
    assert invoke("tag", library, "--relative").code == 0


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_failed_files_keep_their_place(library, form):
    shorten(library, 22, failing=2)
    result = invoke("tag", library, "--relative", *form)
    assert result.code == 3
    assert "2 of 22" in result.err.splitlines()[-1]
    assert len(result.err.splitlines()) == (1 if form else 3)
    if form:
        lines = json_lines(result.out)
        assert [line["error"]["reason"] for line in lines[:2]] == ["empty"] * 2
        assert [line["decided"] for line in lines[2:]] == [list(each.decided) for each in expected(library)]
    else:
        rows = result.out.splitlines()[1:]
        assert [("failed" in row) for row in rows] == [True] * 2 + [False] * 20


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_too_many_failed_files_are_an_error_without_a_reference(library, form):
    shorten(library, 22, failing=3)
    result = invoke("tag", library, "--relative", *form, "--report", library.parent / "page.html")
    assert result.code == 1
    assert "19 different" in result.err.splitlines()[-1]
    assert not (library.parent / "page.html").exists()
    failed = json_lines(result.out) if form else result.err.splitlines()[:-1]
    assert len(failed) == 3


def test_with_a_reference_failed_files_do_not_matter(library, monkeypatch):
    usual, whole = Usual(np.full(4, -2.0), np.ones(4)), tagger.tag_files

    def with_reference(paths, *_, **__):
        for path, result in whole(paths):
            yield path, result if isinstance(result, MoodfieldError) else replace(result, statistics=usual)

    monkeypatch.setattr(tagger, "tag_files", with_reference)
    shorten(library, 20, failing=15)
    result = invoke("tag", library, "--relative", "--json")
    assert result.code == 3
    lines = json_lines(result.out)
    assert [line.get("relative") for line in lines] == [None] * 15 + [True] * 5
    tracks = [replace(tagging(path), statistics=usual) for path in sorted(library.iterdir())[15:]]
    assert [line["decided"] for line in lines[15:]] == [list(each.decided) for each in moodfield.decide(tracks)]


def test_files_of_one_name_are_told_apart(library):
    for name in ("a", "b"):
        (library / name).mkdir()
        (library / name / "07.wav").write_bytes(b"music")
    rows = invoke("tag", library).out.splitlines()
    assert [row.split()[0] for row in rows if "07.wav" in row] == ["07.wav", "a/07.wav", "b/07.wav"]


def test_copies_of_one_track_are_too_few_without_a_reference(library, monkeypatch):
    song = tagging(library / "00.wav")
    monkeypatch.setattr(tagger, "tag_files", lambda paths, *_, **__: ((path, song) for path in paths))
    result = invoke("tag", library, "--relative")
    assert (result.code, result.out) == (1, "")
    assert "1 different" in result.err


def test_the_relative_report_is_that_of_the_same_decisions(library):
    page = library.parent / "page.html"
    result = invoke("tag", library, "--relative", "--json", "--report", page)
    assert result.code == 0
    assert "wrote" in result.err
    text = page.read_text(encoding="utf-8")
    assert "relative to these 25 tracks" in text
    data = reports.read_data(text)
    names = [tag[0] for tag in data["tags"]]
    for line, (*_, (_, strongest, count, *_)) in zip(json_lines(result.out), data["tracks"], strict=True):
        assert [names[tag] for tag in strongest[:count]] == line["decided"]


def test_the_program_of_the_documents_prints_the_same_decisions(library, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "tag.md").read_text(encoding="utf-8")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "decide(" in block)

    class Tagger:
        tag_many = staticmethod(tagger.tag_files)

    monkeypatch.setattr(moodfield, "load", Tagger, raising=False)
    shorten(library, 21, failing=1)
    exec(compile(program, "docs/tag.md", "exec"), {"moodfield": moodfield, "paths": sorted(library.iterdir())})
    assert capsys.readouterr().out.splitlines() == [f"{each.source} {each.decided}" for each in expected(library)]


# ---------------------------------------------------------------- stopped commands


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("tagged", [0, 19, 20, 23])
def test_a_stopped_command_uses_what_is_done(library, monkeypatch, form, tagged):
    page = library.parent / "page.html"
    whole = tagger.tag_files

    def stopped(paths, *_, **__):
        yield from list(whole(paths))[:tagged]
        raise KeyboardInterrupt

    monkeypatch.setattr(tagger, "tag_files", stopped)
    result = invoke("tag", library, "--relative", *form, "--report", page)
    assert result.code == 130
    assert "stopped" in result.err.splitlines()[-1]
    if tagged < 20:
        assert result.out == ""
        assert not page.exists()
        assert ("19 different" in result.err) == (tagged == 19)
    else:
        assert len(result.out.splitlines()) == tagged + (not form)
        assert f"relative to the {tagged}" in result.err
        assert f"{25 - tagged} files were not tagged" in page.read_text(encoding="utf-8")


def test_a_fault_is_not_hidden_by_too_few_files(library, monkeypatch):
    def fail(paths, *_, **__):
        yield paths[0], tagging(paths[0])
        raise ZeroDivisionError

    monkeypatch.setattr(tagger, "tag_files", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("tag", library, "--relative")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_prints_what_is_done(cp_model, tmp_path, jobs):
    """As a process, by a model without reference statistics; its progress bar has the number of files."""
    for number in range(25):
        models.save(tmp_path / f"{number:02}.wav", models.music(2, seed=number))
    long = models.save(tmp_path / "z.wav", models.music(1_500))
    for number in range(8):
        (tmp_path / f"z{number}.wav").symlink_to(long)
    terminal, end = pty.openpty()
    words = ("tag", tmp_path, "--relative", "--json", "--model", cp_model.folder, "--jobs", jobs)
    program = start(*words, "--report", tmp_path / "page.html", stderr=end)
    os.close(end)
    seen = b""
    while b"25/34" not in seen:
        seen += os.read(terminal, 10_000)
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=60)
    os.close(terminal)
    assert program.returncode == 130
    lines = json_lines(out)
    assert 25 <= len(lines) < 34
    assert all(line["relative"] for line in lines)
    assert f"relative to these {len(lines)} tracks" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_closed_pipe_leaves_the_report(library, monkeypatch):
    def fail(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("moodfield.cli.console.result_json", fail)
    with pytest.raises(BrokenPipeError):
        invoke("tag", library, "--relative", "--json", "--report", library.parent / "page.html")
    assert "relative to these 25 tracks" in (library.parent / "page.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the long table


def long_rows(result: Result) -> dict[str, list[str]]:
    """File → what is right of it, a line per tag."""
    rows: dict[str, list[str]] = {}
    name = ""
    for line in result.out.splitlines()[1:]:
        name = line[:38].strip() or name
        rows.setdefault(name, []).append(line[46:].strip())
    return rows


@pytest.mark.parametrize("words", [(), ("--relative",)])
def test_the_long_table_has_how_much_more_likely_than_usual_tags_are(library, words):
    result = invoke("tag", library, "--long", *words)
    assert result.code == 0
    rows = long_rows(result)
    for each in expected(library) if words else [tagging(path) for path in sorted(library.iterdir())]:
        times = each.to_dict()["times_usual"]
        wanted = [(tag, times[tag]) for tag in (*each.moods, *each.themes)]
        shown = rows[Path(each.source).name]
        if not wanted:
            assert shown == ["–"]
            continue
        for line, (tag, factor) in zip(shown, wanted, strict=True):
            name, number = re.fullmatch(r"(?:· )?(\w+) +([\d.]+) × as usual", line).groups()
            assert (name, line.startswith("·")) == (tag, tag == "film")
            assert float(number) == pytest.approx(factor, rel=0.05)
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_the_long_table_has_scores_if_it_is_unknown_what_is_usual(library, monkeypatch):
    songs = [replace(tagging(path), priors=None) for path in sorted(library.iterdir())]
    monkeypatch.setattr(tagger, "tag_files", lambda paths, *_, **__: zip(paths, songs, strict=True))
    result = invoke("tag", library, "--long")
    assert "usual" not in result.out
    assert f"{songs[0].scores[2]:.3f}" in long_rows(result)["00.wav"][-1]


def test_long_lines_of_failed_files_and_odd_names(library):
    (library / "00.wav").write_bytes(b"")
    (library / "01.wav").rename(library / ("1" * 60 + ".wav"))
    result = invoke("tag", library, "--long")
    assert result.code == 3
    assert long_rows(result)["00.wav"] == ["failed"]
    assert all(len(line) <= 80 for line in result.out.splitlines())


# ---------------------------------------------------------------- tags that are too common


def test_a_tag_on_most_tracks_is_a_message(library):
    for form in ((), ("--json",), ("--long",)):
        (line,) = invoke("tag", library, *form).err.splitlines()
        assert "film is on 25 of 25 tracks (100%)" in line
        assert "--relative" in line
    assert invoke("tag", library, "--relative").err == ""


def test_a_tag_on_most_of_a_few_tracks_is_none(library):
    shorten(library, 21, failing=2)
    assert "--relative" not in invoke("tag", library).err
    (library / "00.wav").write_bytes(b"music")
    assert "20 of 20" in invoke("tag", library).err


@pytest.mark.parametrize(("with_tag", "messages"), [(10, 0), (11, 1)])
def test_more_than_half_of_the_tracks_are_too_many(library, monkeypatch, with_tag, messages):
    shorten(library, 20)
    songs = [replace(tagging(path), thresholds=np.full(4, np.inf, np.float32)) for path in sorted(library.iterdir())]
    songs[:with_tag] = [replace(song, thresholds=np.array([1, 1, 1, 0], np.float32)) for song in songs[:with_tag]]
    monkeypatch.setattr(tagger, "tag_files", lambda paths, *_, **__: zip(paths, songs, strict=True))
    result = invoke("tag", library)
    assert (result.code, len(result.err.splitlines())) == (0, messages)
    assert ("dark is on 11 of 20 tracks (55%)" in result.err) == bool(messages)


# ---------------------------------------------------------------- the embedding


@pytest.fixture
def embedded(cp_model, tmp_path) -> Path:
    """A model folder whose card lists an embedding."""
    return models.rewritten(cp_model, tmp_path / "embedded", {"outputs": {"logits": 5, "embedding": 8}})


@pytest.mark.parametrize("words", [(), ("--relative",)])
def test_the_embedding_is_in_json_on_request(library, embedded, monkeypatch, words):
    songs = [replace(tagging(path), embedding=np.arange(8, dtype=np.float32)) for path in sorted(library.iterdir())]
    monkeypatch.setattr(tagger, "tag_files", lambda paths, *_, **__: zip(paths, songs, strict=True))
    result = invoke("tag", library, "--json", "--embedding", "--model", embedded, *words)
    assert result.code == 0, result.err
    assert [line["embedding"] for line in json_lines(result.out)] == [list(range(8))] * 25
    assert not any("embedding" in line for line in json_lines(invoke("tag", library, "--json", *words).out))


def test_a_model_without_embedding_is_one_error_before_tagging(library, cp_model, embedded, tmp_path, monkeypatch):
    without = models.rewritten(cp_model, tmp_path / "without", {"outputs": {"logits": 5}})
    monkeypatch.setattr(tagger, "tag_files", lambda *_, **__: pytest.fail("it began"))
    for folders in ((without,), (embedded, without)):
        words = [word for folder in folders for word in ("--model", folder)]
        result = invoke("tag", library, "--json", "--embedding", *words)
        assert (result.code, result.out) == (1, "")
        assert "no embedding" in result.err
        assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(("words", "token"), [(("--long", "--json"), "times_usual"), (("--embedding",), "--json")])
def test_options_that_would_have_no_effect_are_usage_errors(library, words, token):
    result = invoke("tag", library, *words)
    assert (result.code, result.out) == (2, "")
    assert token in result.err
