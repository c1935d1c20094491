"""What all routes share: the parts of the service, and answers."""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from moodfield import errors, temporary
from moodfield.card import Card
from moodfield.serving import problems, tagging
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.metrics import Metrics
from moodfield.serving.scans import Scans
from moodfield.serving.snapshots import Library
from moodfield.serving.tagging import TaggingPool

MIN_COMPRESSED = 1_000
"""bytes from which on an answer is compressed"""
LEVEL = 5
"""of the compression"""


class Service:
    """The parts of the service; started and closed with its application."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.cards: Mapping[str, tuple[str, Card]] = tagging.read_cards(config)
        self.library = Library(config.database)
        self.pool = TaggingPool(config)
        self.scans = Scans(config, self.library.renew)
        self.metrics = Metrics()
        self.folder = Path()
        """temporary files, in a folder of this service alone"""

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context in which processes run, and files can be received."""
        with temporary.folder() as self.folder:
            self.pool.start()
            try:
                yield
            finally:
                self.scans.close()
                self.pool.close()

    def model(self, name: str | None) -> str:
        """The name by which a model is loaded; raises `UnknownNameError`."""
        if name is None:
            return self.config.models[0]
        return errors.get_or_suggest(self.cards, name, what="model")[0]


async def current(request: Request) -> Service:  # async, so that no thread is needed for it
    """The service that a request is for."""
    service: Service = request.app.state.service
    return service


Current = Annotated[Service, Depends(current)]


def answer(request: Request, value: object, *, status: int = 200) -> Response:
    """A value as JSON, compressed if the client accepts that."""
    body = problems.encode(value)
    headers = {"vary": "accept-encoding"}
    if len(body) >= MIN_COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, LEVEL)
        headers["content-encoding"] = "gzip"
    return Response(body, status, headers, "application/json")


def documented(model: type[Any] | None, *statuses: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The documentation of answers: what is expected, and the problems that there may be."""
    problem = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}}
    described: dict[int | str, dict[str, Any]] = {
        code: {"description": HTTPStatus(code).phrase} | problem for code in (400, 401, 403, 413, 421, *statuses)
    }
    if model is None:
        return described
    return {status: {"model": model, "description": (model.__doc__ or "").strip()}, **described}
