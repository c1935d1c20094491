"""The application: routes, middleware, and what starts and ends with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import moodfield
from moodfield.serving import library_routes, pages, problems, scan_routes, schemas, tag_routes
from moodfield.serving.access import AccessMiddleware
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.head import HeadMiddleware
from moodfield.serving.metrics import MetricsMiddleware
from moodfield.serving.problems import JsonResponse, ProblemMiddleware
from moodfield.serving.service import Service
from moodfield.serving.uploads import BodyMiddleware

DESCRIPTION = "Tags music with moods and themes, and shows a library of tagged music."


def create(config: ServiceConfig) -> FastAPI:
    """Create the application.

    Args:
        config: What is served, and within which limits.

    Raises:
        LibraryError: The database cannot be opened.
        ModelError: A model cannot be loaded.
    """
    service = Service(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.running():
            yield

    app = FastAPI(
        title="moodfield",
        version=moodfield.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # they load what they show from other servers
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy the address would be wrong
        default_response_class=JsonResponse,
        responses={500: {"model": schemas.ProblemAnswer, "description": "an error of the server"}},
    )
    app.state.service = service
    for router in (tag_routes.router, library_routes.router, scan_routes.router, pages.router):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(BodyMiddleware, config=config)
    app.add_middleware(AccessMiddleware, config=config)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
    app.add_middleware(HeadMiddleware)
    return app
