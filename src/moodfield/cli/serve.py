"""The command that serves the API and the page."""

from typing import Annotated

import typer

from moodfield.cli import console, filters

TOKEN = "MOODFIELD_TOKEN"


def address(host: str, port: int) -> str:
    """The URL of a service, for a browser; of one that listens on all addresses, by the name of this machine."""
    import ipaddress
    import socket

    try:
        listened = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}/"
    if listened.is_unspecified:
        return f"http://{socket.gethostname()}:{port}/"
    return f"http://[{host}]:{port}/" if listened.version == 6 else f"http://{host}:{port}/"


def serve(
    *,
    db: filters.Database = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; others than of this machine need a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="port; 0 chooses a free one")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar=TOKEN, show_envvar=False, help=f"what requests need; better in ${TOKEN}")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="name, folder or run of a model; several may be chosen from",
            autocompletion=console.complete_model,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="processes that tag; 0: one a core")] = 0,
) -> None:
    """Serve an API that tags music, and a page that shows your library; nothing leaves this machine.

    For example:
        moodfield serve
        moodfield serve --db library.db --port 8080 --jobs 2
        MOODFIELD_TOKEN=... moodfield serve --host 0.0.0.0
    """
    from moodfield import parallel
    from moodfield.serving import server
    from moodfield.serving.configs import ServiceConfig

    config = ServiceConfig(
        database=filters.database_path(db),
        models=tuple(model or ("default",)),
        host=host,
        token=token,
        jobs=jobs or parallel.cpu_count(),
    )
    with server.listen(host, port) as listening:
        created = server.create(config)
        url = address(host, listening.getsockname()[1])
        console.message(f"serving {config.database} at {url}; stop it with Ctrl-C")
        created.run([listening])
