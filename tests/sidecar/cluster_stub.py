"""An API server for one Deployment's scale: TLS, tokens, permissions and versions as Kubernetes has them."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hansa.cli.certificates import issue_authority, issue_server

DEPLOYMENT = "/apis/apps/v1/namespaces/hansa/deployments/hansa-executor"


class Cluster:
    """Two Deployments, one service account, a Role that names verbs of one of them."""

    def __init__(self) -> None:
        self.token = "token-1"
        # Verbs that the Role grants, by resource.
        self.role = {"deployments/scale": {"get", "patch"}}
        self.version, self.wanted, self.there = 7, 1, 1
        self.requests: list[tuple[str, str, Any]] = []
        # Called before a PATCH is looked at: somebody else may write first.
        self.between: Callable[[], None] = lambda: None

    def scale(self) -> dict[str, Any]:
        # The real API leaves out zero.
        spec = {"replicas": self.wanted} if self.wanted else {}
        status = {"selector": "app=hansa-executor", "replicas": self.there}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "hansa-executor",
                "namespace": "hansa",
                "resourceVersion": str(self.version),
            },
            "spec": spec,
            "status": status,
        }

    def write(self, replicas: int) -> None:
        self.wanted, self.version = replicas, self.version + 1

    def answer(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, dict[str, Any]]:
        self.requests.append((method, path, body))
        if headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if not path.startswith("/apis/apps/v1/namespaces/hansa/deployments/hansa-") or not path.endswith(
            "/scale"
        ):
            return _status(403, "Forbidden", f'cannot {method.lower()} "{path}"')
        if method.lower() not in self.role["deployments/scale"]:
            return _status(403, "Forbidden", f'cannot {method.lower()} resource "deployments/scale"')
        if path != f"{DEPLOYMENT}/scale":
            return _status(404, "NotFound", "deployments.apps not found")
        if method == "PATCH":
            if headers.get("Content-Type") != "application/merge-patch+json":
                return _status(
                    415, "UnsupportedMediaType", "the body of the request was in an unknown format"
                )
            self.between()
            wanted = body.get("metadata", {}).get("resourceVersion")
            if wanted is not None and wanted != str(self.version):
                return _status(409, "Conflict", "the object has been modified; please apply your changes")
            self.write(int(body["spec"]["replicas"]))
        return 200, self.scale()


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}


@contextmanager
def listening_cluster(folder: Path) -> Iterator[tuple[Cluster, str]]:
    """A cluster and its address; the CA lies in `folder`/ca.crt, the token in `folder`/token."""
    cluster = Cluster()
    authority = issue_authority("cluster", datetime.now(UTC))
    issued = issue_server(authority, ["127.0.0.1"], datetime.now(UTC))
    for name, content in (
        ("ca.crt", authority.certificate),
        ("server.crt", issued.certificate),
        ("server.key", issued.key),
        ("token", cluster.token.encode() + b"\n"),
    ):
        (folder / name).write_bytes(content)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = cluster.answer(self.command, self.path, self.headers, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield cluster, f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
