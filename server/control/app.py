"""Control's application: routes over one desk."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from hansa import __version__
from hansa.server.control import (
    budget_routes,
    health_routes,
    history_routes,
    job_routes,
    process_routes,
    scaling_routes,
    sign_routes,
    steering_routes,
)
from hansa.server.control.body_limit import BodyLimit
from hansa.server.control.desk import ControlDesk
from hansa.server.control.kept_answers import KeptAnswers
from hansa.server.control.page import POLICY, render
from hansa.server.control.problems import answer_problems
from hansa.server.control.web import routes as web
from hansa.server.control.web.hub import Hub

_ROUTERS = (
    health_routes.router,
    job_routes.reading,
    job_routes.writing,
    job_routes.steering,
    history_routes.router,
    budget_routes.router,
    steering_routes.reading,
    steering_routes.writing,
    steering_routes.steering,
    process_routes.reading,
    process_routes.writing,
    scaling_routes.reading,
    scaling_routes.writing,
    sign_routes.router,
    web.files,
    web.stream,
)


def build_app(desk: ControlDesk) -> FastAPI:
    """The API over this desk."""
    app = FastAPI(
        title="Hansa control",
        version=__version__,
        description="Jobs, rounds, members, knobs and events of one consortium, and the operator's signature.",
        # FastAPI's own pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.desk = desk
    app.state.hub = Hub(desk)
    app.add_middleware(KeptAnswers, store=desk.store)
    app.add_middleware(BodyLimit)
    answer_problems(app)
    for router in _ROUTERS:
        app.include_router(router)

    @app.get("/docs", include_in_schema=False)
    def _docs(request: Request) -> HTMLResponse:
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(render(request.app.openapi()), headers=headers)

    return app
