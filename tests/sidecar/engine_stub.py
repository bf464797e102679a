"""An engine that answers as Docker's does and notes every request that reaches it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"


def labels(service: str, number: int, project: str = "hansa", oneoff: str = "False") -> dict[str, str]:
    return {
        PROJECT: project,
        SERVICE: service,
        "com.docker.compose.container-number": str(number),
        "com.docker.compose.oneoff": oneoff,
        "com.docker.compose.config-hash": "abc",
    }


class EngineStub:
    """Containers by id; starts, signals and removes them as the engine would."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.made = 0
        # Options of drivers by volume; others have none.
        self.volume_options: dict[str, dict[str, str]] = {}

    def add(self, name: str, own: dict[str, str], state: str = "running", **host: Any) -> str:
        self.made += 1
        container = f"{self.made:064x}"
        self.containers[container] = {
            "Id": container,
            "Name": f"/{name}",
            "Image": "sha256:" + "1" * 64,
            "State": {"Status": state, "ExitCode": 0, "StartedAt": "", "FinishedAt": "", "Pid": 7},
            "Config": {
                "Image": "hansa:local",
                "User": "10001:10001",
                "Env": ["HANSA_SECRET=abc"],
                "Cmd": None,
                "Entrypoint": ["python3", "-m", "hansa.server.executor"],
                "WorkingDir": "/tmp",
                "Labels": own,
            },
            "HostConfig": {
                "Privileged": False,
                "ReadonlyRootfs": True,
                "CapAdd": None,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "Binds": ["hansa_server:/instance/server:ro"],
                "NetworkMode": "hansa_inner",
                "PidMode": "",
                "IpcMode": "private",
                "PortBindings": {"80/tcp": [{"HostPort": "80"}]},
                **host,
            },
            "NetworkSettings": {"Networks": {"hansa_inner": {"Aliases": [name, "executor", container[:12]]}}},
        }
        return container

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        self.requests.append((method, target, body))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = parts.path.strip("/").split("/")
        if words == ["containers", "json"]:
            wanted = dict(it.split("=", 1) for it in json.loads(query["filters"])["label"])
            return 200, [
                {
                    **{"Id": it["Id"], "Names": [it["Name"]], "Created": 1, "State": it["State"]["Status"]},
                    **{"Status": "Up 5 seconds", "Labels": it["Config"]["Labels"], "Command": "secret"},
                }
                for it in self.containers.values()
                if wanted.items() <= it["Config"]["Labels"].items()
            ]
        if words == ["containers", "create"]:
            name = unquote(query["name"])
            if any(it["Name"] == f"/{name}" for it in self.containers.values()):
                return 409, {"message": f'Conflict. The container name "/{name}" is already in use'}
            return 201, {"Id": self.add(name, body["Labels"], "created"), "Warnings": []}
        if words[0] == "volumes":
            name = unquote(words[1])
            return 200, {"Name": name, "Driver": "local", "Options": self.volume_options.get(name)}
        # The engine takes names and beginnings of ids; the gate must not rely on that.
        found = next((it for it in self.containers.values() if it["Id"] == words[1]), None)
        if found is None:
            return 404, {"message": f"No such container: {words[1]}"}
        return self._on(found, method, words[2:], query)

    def _on(
        self, it: dict[str, Any], method: str, words: list[str], query: dict[str, str]
    ) -> tuple[int, Any]:
        if words == ["json"]:
            return 200, it
        if words == ["stats"]:
            used = {"usage": 150, "limit": 1000, "stats": {"inactive_file": 50}}
            return 200, {"cpu_stats": {"cpu_usage": {"total_usage": 5_000_000_000}}, "memory_stats": used}
        if method == "DELETE":
            if it["State"]["Status"] == "running":
                return 409, {"message": "container is running: stop the container before removing"}
            del self.containers[it["Id"]]
            return 204, None
        if words == ["kill"] and it["State"]["Status"] != "running":
            return 409, {"message": f"container {it['Id']} is not running"}
        if words == ["start"] or (words == ["kill"] and query["signal"] == "SIGUSR1"):
            it["State"]["Status"] = "running"
            return 204, None
        if words == ["stop"]:
            it["State"]["Status"] = "exited"
            return 204, None
        return 500, {"message": f"what is {words}?"}


@contextmanager
def listening_stub(path: Path) -> Iterator[EngineStub]:
    """One that listens on a Unix socket."""
    stub = EngineStub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = stub.answer(self.command, self.path, body)
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if content:
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    server = Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
