"""Routes that tag uploaded files."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from moodfield.serving import problems, schemas, service, tagging, uploads
from moodfield.serving.service import Current, Service
from moodfield.serving.tagging import Task
from moodfield.serving.uploads import Limits

router = APIRouter(prefix="/v1", tags=["tagging"])

Model = Annotated[str | None, Query(max_length=200, description="name of a served model; by default the first one")]
OverTime = Annotated[bool, Query(description="also scores over time and the waveform")]
Embedding = Annotated[bool, Query(description="also the embedding")]
Name = Annotated[str, Query(max_length=uploads.MAX_NAME, description="name of the file of a plain body")]
LINES = "application/x-ndjson"

_FORM = {
    "type": "object",
    "required": [uploads.FIELD],
    "properties": {uploads.FIELD: {"type": "string", "format": "binary"}},
}
_FORMS = {
    "type": "object",
    "required": [uploads.FIELD],
    "properties": {uploads.FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
}
_PLAIN = {"schema": {"type": "string", "format": "binary"}}


def _body(form: dict[str, Any], **plain: dict[str, Any]) -> dict[str, Any]:
    """The documentation of a body with files."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **plain}}}


@router.get("/models", responses=service.documented(schemas.ModelsAnswer))
def models(request: Request, current: Current) -> Response:
    """The served models, the default one first: name, version, licence, and tags with their kind."""
    return service.answer(request, {"models": [tagging.describe(card) for _, card in current.cards.values()]})


@router.post(
    "/tag",
    responses=service.documented(schemas.TaggingAnswer, 408, 415, 422, 503, 507),
    openapi_extra=_body(_FORM, **{"application/octet-stream": _PLAIN, "audio/*": _PLAIN}),
)
async def tag_file(
    request: Request,
    current: Current,
    *,
    over_time: OverTime = False,
    embedding: Embedding = False,
    model: Model = None,
    name: Name = "",
) -> Response:
    """Tag a file, sent as the field `file` of a form, or as the body."""
    loaded = current.model(model)
    with current.pool.admit():
        async with uploads.receive(request, current.folder, Limits.of_file(current.config), name=name) as (upload,):
            task = Task(upload.path, upload.name, loaded, over_time=over_time, embedding=embedding)
            return Response(await current.pool.tag(task, request), media_type="application/json")


@router.post(
    "/tag/batch",
    responses={
        **service.documented(schemas.TaggingAnswer, 408, 415, 422, 503, 507),
        200: {"description": "a line for every file, in the order in which they are ready", "content": {LINES: {}}},
    },
    openapi_extra=_body(_FORMS),
    response_class=StreamingResponse,
)
async def tag_batch(
    request: Request,
    current: Current,
    *,
    over_time: OverTime = False,
    embedding: Embedding = False,
    model: Model = None,
) -> Response:
    """Tag several files, sent as fields `file` of a form.

    Answers a line of JSON for each of them when it is ready: its number, its name, and `tagging` or `problem`.
    """
    loaded = current.model(model)
    async with AsyncExitStack() as stack:
        stack.enter_context(current.pool.admit())
        files = await stack.enter_async_context(
            uploads.receive(request, current.folder, Limits.of_batch(current.config))
        )
        tasks = [Task(file.path, file.name, loaded, over_time=over_time, embedding=embedding) for file in files]
        return _Lines(_tag_all(current, tasks), stack.pop_all())
    raise AssertionError("unreachable")


class _Lines(StreamingResponse):
    """Lines of JSON; what they are made from is removed when they are sent, or the client has gone."""

    def __init__(self, lines: AsyncIterator[bytes], stack: AsyncExitStack) -> None:
        super().__init__(lines, media_type=LINES)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _tag_all(current: Service, tasks: list[Task]) -> AsyncIterator[bytes]:
    """A line for every file when it is tagged."""
    turn = asyncio.Semaphore(current.config.jobs)
    running = [asyncio.ensure_future(_line(current, number, task, turn)) for number, task in enumerate(tasks)]
    try:
        for line in asyncio.as_completed(running):
            yield await line
    finally:
        for task in running:
            task.cancel()


async def _line(current: Service, number: int, task: Task, turn: asyncio.Semaphore) -> bytes:
    """The line of a file."""
    head = {"number": number, "name": task.name}
    try:
        tagged = json.loads(await current.pool.tag(task, batch=turn))
        return problems.encode(head | {"tagging": tagged}) + b"\n"
    except Exception as error:  # noqa: BLE001 (answered as a problem)
        problem = problems.from_error(error, f"file {number} of a batch")
        return problems.encode(head | {"problem": problem.to_dict()}) + b"\n"
