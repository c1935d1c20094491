"""Uploads are tagged as the command tags files, and every error is a problem."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import services
from moodfield import tagger
from moodfield.serving import tagging, uploads
from moodfield.serving.configs import ServiceConfig
from services import Running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with services.running(ServiceConfig(tmp_path_factory.mktemp("db") / "library.db", jobs=1)) as started:
        yield started


def test_a_form_and_a_plain_body_give_the_tagging_of_the_command(running: Running, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(services.wav())
    expected = json.loads(json.dumps(tagger.load(threads=1).tag(song).to_dict(embedding=True)))
    expected["source"] = "song.wav"
    form = running.client.post("/v1/tag?embedding=true", files={"file": ("C:\\a\\song.wav", song.read_bytes())})
    assert form.status_code == 200
    assert form.json() == expected
    headers = {"content-type": "audio/wav", "x-filename": "music/song.wav"}
    plain = running.client.post("/v1/tag?embedding=true", content=song.read_bytes(), headers=headers)
    assert plain.json() == expected


def test_scores_over_time_come_with_the_waveform(running: Running) -> None:
    values = running.client.post("/v1/tag?over_time=true", files={"file": ("a.wav", services.wav(4.0))}).json()
    assert len(values["over_time"]["scores"]["calm"]) == len(values["over_time"]["seconds"])
    assert len(values["envelope"]) == 80
    assert 0 < values["envelope"][0] < values["envelope"][-1] <= 1


def test_long_waveforms_have_the_largest_peak_of_each_part() -> None:
    import numpy as np

    from moodfield.audio import Envelope

    peaks = np.zeros(9_000, np.float32)
    peaks[4_500] = 1
    values = tagging.peaks(Envelope(0.05, peaks))
    assert len(values) == tagging.MAX_PEAKS
    assert values.index(1.0) == 1_000
    assert tagging.peaks(None) == []


def test_files_that_are_no_audio_are_problems_without_a_temporary_path(running: Running) -> None:
    answer = running.client.post(
        "/v1/tag?name=../../etc/passwd", content=b"root:x:0", headers={"content-type": "audio/x"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert problem["reason"] == "not-audio"
    assert problem["detail"].startswith("passwd ")
    assert str(running.service.folder) not in answer.text


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"xx", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400),
        ({"content": b"xx", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"--a\r\n", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400),
        ({"files": {"other": ("a.wav", b"x")}}, 422),
        ({"data": {"file": "text"}, "files": {"other": ("a", b"")}}, 422),
        ({"content": b"", "headers": {"content-type": "audio/wav"}}, 422),
        ({"files": [("file", ("a.wav", b"x")), ("file", ("b.wav", b"x"))]}, 413),
        ({"content": services.wav(), "params": {"model": "other"}}, 422),
        ({"content": services.wav(), "params": {"over_time": "perhaps"}}, 422),
    ],
)
def test_other_requests_are_problems(running: Running, request_: dict[str, object], status: int) -> None:
    answer = running.client.post("/v1/tag", **request_)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert not list(running.service.folder.iterdir())


def test_the_name_of_a_plain_body_is_decoded_once(running: Running) -> None:
    headers = {"content-type": "audio/wav"}
    answer = running.client.post("/v1/tag", content=b"x", params={"name": "100%25.wav"}, headers=headers)
    assert answer.json()["detail"].startswith("100%25.wav ")
    answer = running.client.post("/v1/tag", content=b"x", headers=headers | {"x-filename": "caf%C3%A9.wav"})
    assert answer.json()["detail"].startswith("café.wav ")


def test_batches_answer_a_line_for_every_file(running: Running) -> None:
    songs = [("file", (f"{seed}.wav", services.wav(seed=seed))) for seed in range(3)]
    answer = running.client.post("/v1/tag/batch", files=[*songs, ("file", ("text.mp3", b"no audio"))])
    lines = {line["number"]: line for line in map(json.loads, answer.text.splitlines())}
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [lines[number]["name"] for number in range(4)] == ["0.wav", "1.wav", "2.wav", "text.mp3"]
    assert all(lines[number]["tagging"]["duration"] == 3.0 for number in range(3))
    assert lines[3]["problem"]["reason"] == "not-audio"
    assert services.wait(lambda: running.service.pool.requests == 0)


def test_models_have_their_tags(running: Running) -> None:
    (model,) = running.client.get("/v1/models").json()["models"]
    kinds = {tag["name"]: tag["kind"] for tag in model["tags"]}
    assert (model["name"], len(kinds), kinds["calm"], kinds["film"]) == ("default", 56, "mood", "theme")


def test_names_are_those_of_files_in_no_folder() -> None:
    assert uploads.file_name("a/b\\c") == "c"
    assert uploads.file_name("..") not in (".", "..", "")
    assert len(uploads.file_name("x" * 1_000)) == uploads.MAX_NAME


def test_nothing_is_left_of_uploads_and_of_the_service(tmp_path: Path) -> None:
    with services.running(ServiceConfig(tmp_path / "library.db", jobs=1)) as started:
        assert started.client.post("/v1/tag", files={"file": ("a.wav", services.wav())}).status_code == 200
        assert started.client.post("/v1/tag", files={"file": ("a.wav", b"xx")}).status_code == 422
        folder = started.service.folder
        assert folder.is_dir()
        assert not list(folder.iterdir())
    assert not folder.exists()
