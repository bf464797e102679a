"""Who may call what: dependencies that check the request's bearer token.

They are coroutines, as they wait for nothing: a plain function would go through a thread, several for each request.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hansa.server.control.problems import Forbidden, Unauthorized
from hansa.server.tokens import ALLOWS, Scope, Tokens

_bearer = HTTPBearer(auto_error=False, description="A token of tokens.json")
_Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def scope_of(request: Request, given: _Given) -> Scope:
    """Dependency: what the request's token stands for."""
    tokens: Tokens = request.app.state.desk.tokens
    found = tokens.scope_of(given.credentials) if given else None
    if found is None:
        raise Unauthorized("a valid bearer token is needed: Authorization: Bearer TOKEN")
    return found


async def _require(request: Request, given: HTTPAuthorizationCredentials | None, scope: Scope) -> None:
    found = await scope_of(request, given)
    if scope not in ALLOWS[found]:
        raise Forbidden(f"the '{found}' token does not allow this; it takes the '{scope}' token")


async def may_read(request: Request, given: _Given) -> None:
    """Dependency: the request may read."""
    await _require(request, given, "read")


async def may_write(request: Request, given: _Given) -> None:
    """Dependency: the request may write."""
    await _require(request, given, "write")


async def may_steer(request: Request, given: _Given) -> None:
    """Dependency: the request may do what the sidecar does: decide, recover, pause, hold a member out."""
    await _require(request, given, "steer")


async def may_sign(request: Request, given: _Given) -> None:
    """Dependency: the request may have orders signed."""
    await _require(request, given, "sign")
