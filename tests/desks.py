"""Control over a fresh store, for tests: charter and keys of a small federation, no files but the store."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from federation import make_federation
from starlette.testclient import TestClient

from hansa.contract.messages import Request, RequestHeader
from hansa.contract.typed import canonical_json
from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.server.store import open_store
from hansa.server.tokens import Tokens

SECRETS = {scope: f"{scope}-{'0123456789' * 2}" for scope in ("read", "steer", "write", "sign")}
# Nothing listens on port 1.
NOWHERE = "127.0.0.1:1"


@contextmanager
def open_test_desk(folder: Path, **charter: object) -> Iterator[ControlDesk]:
    federation = make_federation(**charter)  # type: ignore[arg-type]
    store = open_store(f"sqlite:///{folder}/store.sqlite")
    try:
        yield ControlDesk(
            store=store,
            charter=federation.charter,
            charter_hash=federation.hash,
            key=federation.operator,
            tokens=Tokens({scope: secret.encode() for scope, secret in SECRETS.items()}),  # type: ignore[misc]
            superlink=NOWHERE,
        )
    finally:
        store.close()


def client(desk: ControlDesk, scope: str | None = "write") -> TestClient:
    headers = {"Authorization": f"Bearer {SECRETS[scope]}"} if scope else {}
    return TestClient(build_app(desk), headers=headers)


def header(desk: ControlDesk, body: Request, **changes: object) -> bytes:
    return canonical_json(
        RequestHeader.model_validate({"charter": desk.charter_hash, "body": body, **changes})
    )


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()
