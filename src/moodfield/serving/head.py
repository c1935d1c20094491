"""HEAD requests: they are answered as GET is, without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH_SEND = "http.response.pathsend"
"""extension of ASGI by which an application names a file instead of sending it"""
REQUESTED = "moodfield.method"
"""key of the method of a request before it was handled as GET"""


class HeadMiddleware:
    """Handles HEAD as GET, and sends the status and the headers alone (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif not message.get("more_body"):
                await send({"type": "http.response.body", "body": b""})

        extensions = {**scope.get("extensions", {}), PATH_SEND: {}}  # so that no file is read in vain
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]  # it is defined for GET alone
        replaced = {"method": "GET", "headers": headers, "extensions": extensions, REQUESTED: "HEAD"}
        await self._app({**scope, **replaced}, receive, send_head)


def method(scope: Scope) -> str:
    """The method of a request; HEAD if it is handled as GET."""
    requested: str = scope.get(REQUESTED, scope["method"])
    return requested
