"""The peer of `benchmarks/scoring.py`: the same model and checks as a FastAPI application with a pydantic model.

It is written as its documentation teaches: the row is a pydantic model made from the contract, the token a dependency.
Encoding and prediction are the service's own, so what differs is the framework. It runs on uvicorn with uvloop and
httptools as the service does, and counts its requests.
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ConfigDict, Field, create_model

from hansa.clients.scoring.server import address, listen
from hansa.clients.scoring.serving import Desk
from hansa.contract.features import NumericColumn


def build(desk: Desk, token: str) -> FastAPI:
    """The application."""
    app, tally = FastAPI(), desk.tally
    fields: dict[str, Any] = {}
    for column in desk.coder.features.columns:
        kind = float | bool | None if isinstance(column, NumericColumn) else str | int | float | None
        fields[column.name] = (kind, Field()) if not column.optional else (kind, None)
    Row = create_model("Row", __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
    names = [column.name for column in desk.coder.features.columns]
    bearer = HTTPBearer()

    async def known(given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> None:
        if given.credentials != token:
            raise HTTPException(401)

    async def score(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        began = perf_counter()
        serving = desk.serving
        found = serving.predictor.one(desk.coder.row([getattr(row, name) for name in names]))
        tally.answered(0, 200, perf_counter() - began)
        return {"score": found, "model": serving.version}

    app.post("/v1/score", dependencies=[Depends(known)])(score)
    return app


def main() -> None:
    """MODEL TOKEN READY_FILE"""
    model, token, ready = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    listener = listen("127.0.0.1", 0)
    ready.write_text(json.dumps({"scoring": address(listener), "pid": os.getpid()}))
    settings = uvicorn.Config(
        build(Desk(model), token),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(settings).run(sockets=[listener])


if __name__ == "__main__":
    main()
