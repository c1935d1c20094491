"""The API does what its description states, for requests that schemathesis makes of it."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks

import libraries
import services
from moodfield.serving import documentation, tagging
from moodfield.serving.configs import ServiceConfig
from services import Running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of a small library, with a stand-in for tagging."""
    path = tmp_path_factory.mktemp("db") / "library.db"
    libraries.make(path, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tagging, "tag", services.tag_at_once)
        with services.running(ServiceConfig(path)) as started:
            yield started


@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_answers_are_as_described(running: Running, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 16
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(timeout=30, excluded_checks=[checks.positive_data_acceptance])  # tags may be unknown

        check()


def test_head_is_answered_as_get_without_the_body(running: Running) -> None:
    described = running.client.get("/openapi.json").json()["paths"]
    paths = [path.replace("{number}", "1") for path, operations in described.items() if "get" in operations]
    assert len(paths) >= 9
    others = ("/", "/docs", "/docs.css", "/openapi.json", "/metrics", "/assets/none.js", "/nothing", "/v1/tag")
    for path in (*paths, *others):
        expected, answer = running.client.get(path), running.client.head(path)
        assert answer.status_code == expected.status_code, path
        assert answer.headers["content-type"] == expected.headers["content-type"], path
        assert path == "/metrics" or answer.headers["content-length"] == expected.headers["content-length"], path
        assert answer.content == b"", path


def test_every_route_is_on_the_page(running: Running) -> None:
    described = running.client.get("/openapi.json").json()
    page = running.client.get("/docs").text
    for path, operations in described["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}</h3>" in page
    assert "<script" not in page
    assert "http" not in documentation.STYLE
    assert "//" not in page.replace("</", "")
