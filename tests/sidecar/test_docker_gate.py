"""The gate lets through its list, to the letter; what an attacker in the sidecar might try does not reach Docker."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_stub import EngineStub, labels, listening_stub

from hansa.sidecar.actuators import ActuatorError, Load, Replicas
from hansa.sidecar.actuators.docker import MADE_HERE, Docker
from hansa.sidecar.actuators.unix_http import ask
from hansa.sidecar.docker_gate.__main__ import listen, main, serve
from hansa.sidecar.docker_gate.gate import Gate
from hansa.sidecar.docker_gate.rules import Forbidden, Wish, read_wish

ID = "a" * 64


class Setting:
    """An engine with two executors and what is nobody's business, and the gate in front of it."""

    def __init__(self, folder: Path, engine: EngineStub) -> None:
        self.engine, self.socket, self.folder = engine, folder / "gate.sock", folder
        self.first = engine.add("hansa-executor-1", labels("executor", 1))
        self.second = engine.add("hansa-executor-2", {**labels("executor", 2), MADE_HERE: "1"})
        self.control = engine.add("hansa-control-1", labels("control", 1))
        self.other = engine.add("shop-executor-1", labels("executor", 1, project="shop"))
        self.oneoff = engine.add("hansa-executor-run-1", labels("executor", 1, oneoff="True"))
        self.plain = engine.add("somebody", {})

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """As a library would; what has a body is sent at once, for the gate answers before it has read that."""
        if body is None:
            return ask(self.socket, method, target)
        content = json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        line, _, answer = self.raw(head.encode() + content).partition(b"\r\n")
        return int(line.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    def raw(self, content: bytes, *, shut: bool = True) -> bytes:
        """What is answered to bytes that no HTTP library would send."""
        with socket.socket(socket.AF_UNIX) as it:
            it.settimeout(10)
            it.connect(str(self.socket))
            read = b""
            try:
                it.sendall(content)
                if shut:
                    it.shutdown(socket.SHUT_WR)
            except BrokenPipeError:
                pass
            try:
                while part := it.recv(65536):
                    read += part
            except ConnectionResetError:
                pass
            return read

    def docker(self, **settings: Any) -> Docker:
        return Docker(self.socket, "executor", record=self.folder / "leaving.json", **settings)

    @property
    def changes(self) -> list[tuple[str, str, Any]]:
        """Requests that reached the engine and change something."""
        return [it for it in self.engine.requests if it[0] != "GET"]


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Setting]:
    with listening_stub(tmp_path / "docker.sock") as engine:
        made = Setting(tmp_path, engine)
        listening = listen(made.socket)
        gate = Gate(tmp_path / "docker.sock", "hansa", {"executor": 4})
        thread = threading.Thread(target=serve, args=(listening, gate), daemon=True)
        thread.start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def test_what_a_scaler_needs_goes_through(it: Setting) -> None:
    status, found = it.ask("GET", "/containers/json")
    assert (status, [entry["Id"] for entry in found]) == (200, [it.first, it.second])
    status, made = it.ask("POST", "/containers/create?service=executor")
    assert status == 201
    for action in ("start", "drain", "stop?t=5"):
        assert it.ask("POST", f"/containers/{made['Id']}/{action}") == (200, {})
    assert it.ask("DELETE", f"/containers/{made['Id']}") == (200, {})
    assert it.ask("GET", f"/containers/{it.first}/stats")[1] == {
        "cpu_ns": 5_000_000_000,
        "cpus": 1.0,
        "memory": 100,
        "memory_limit": 1000,
    }
    assert it.ask("GET", "/_ping")[0] == 200


def test_a_new_container_is_made_as_compose_made_the_first(it: Setting) -> None:
    assert it.ask("POST", "/containers/create?service=executor")[0] == 201
    [(_, target, body)] = it.changes
    assert target == "/containers/create?name=hansa-executor-3"
    assert body["Image"] == "sha256:" + "1" * 64
    assert body["Entrypoint"] == ["python3", "-m", "hansa.server.executor"]
    assert body["Env"] == ["HANSA_SECRET=abc"]
    assert body["Labels"] == {**labels("executor", 3), MADE_HERE: "1"}
    # Neither a published port, which is taken, nor the first one's own names.
    assert "PortBindings" not in body["HostConfig"]
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"hansa_inner": {"Aliases": ["executor"]}}
    assert body["HostConfig"]["Binds"] == ["hansa_server:/instance/server:ro"]
    assert body["HostConfig"]["CapDrop"] == ["ALL"]
    bounds = {"MemorySwap": 256, "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}], "CpusetCpus": "0"}
    it.engine.containers[it.first]["HostConfig"].update(bounds)
    it.ask("POST", "/containers/create?service=executor")
    assert bounds.items() <= it.changes[-1][2]["HostConfig"].items()


def test_nothing_secret_comes_out(it: Setting) -> None:
    for target in ("/containers/json", f"/containers/{it.first}/json"):
        said = json.dumps(it.ask("GET", target)[1])
        assert "secret" not in said.lower()
        assert "Env" not in said
        assert "config-hash" not in said


PRIVILEGED = {
    "Image": "hansa:local",
    "HostConfig": {"Privileged": True, "Binds": ["/:/host"], "PidMode": "host", "CapAdd": ["SYS_ADMIN"]},
}


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/containers/create?service=executor", PRIVILEGED),
        ("POST", "/containers/create?service=executor&name=x", None),
        ("POST", "/containers/create?name=x", PRIVILEGED),
        ("POST", "/containers/create?service=control", None),
        ("POST", "/containers/create?service=..", None),
        ("POST", "/containers/create?service=executor%00", None),
        ("POST", "/v1.41/containers/create?service=executor", PRIVILEGED),
        ("POST", "/images/create?fromImage=evil", None),
        ("POST", "/build", None),
        ("POST", "/volumes/create", {"Driver": "local", "DriverOpts": {"o": "bind", "device": "/"}}),
        ("POST", "/networks/create", {}),
        ("POST", "/commit?container=x", None),
        ("POST", "/swarm/init", {}),
        ("POST", "/auth", {}),
        ("POST", "/session", None),
        ("POST", "/grpc", None),
        ("GET", "/info", None),
        ("GET", "/events", None),
        ("GET", "/images/json", None),
        ("GET", "/secrets", None),
        ("GET", "/containers/json?all=true&filters={}", None),
        ("POST", "/containers/prune", None),
        ("POST", "/exec/abc/start", {}),
    ],
)
def test_other_parts_of_the_engine_are_out_of_reach(it: Setting, method: str, target: str, body: Any) -> None:
    status, said = it.ask(method, target, body)
    assert status == 403
    assert set(said) == {"message"}
    assert it.changes == []


@pytest.mark.parametrize(
    "what",
    [
        *(
            "exec",
            "attach",
            "attach/ws",
            "archive?path=/",
            "logs?stdout=1",
            "export",
            "top",
            "changes",
            "update",
        ),
        *(
            "rename?name=x",
            "resize",
            "pause",
            "wait",
            "restart",
            "kill?signal=SIGKILL",
            "kill",
            "checkpoints",
        ),
        *(
            "start?detachKeys=x",
            "stop",
            "stop?t=-1",
            "stop?t=99",
            "stop?t=1&signal=SIGKILL",
            "drain?signal=9",
        ),
    ],
)
def test_nothing_else_is_done_even_to_ones_own_containers(it: Setting, what: str) -> None:
    for method in ("POST", "GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"):
        answer = it.raw(f"{method} /containers/{it.first}/{what} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403 "), (method, answer)
    assert it.changes == []


@pytest.mark.parametrize("which", ["control", "other", "oneoff", "plain", "unknown"])
def test_other_containers_are_not_to_be_had_and_cannot_be_told_from_none(it: Setting, which: str) -> None:
    container = "f" * 64 if which == "unknown" else getattr(it, which)
    answers = [
        it.ask(method, f"/containers/{container}{action}")
        for method, action in (
            *(("GET", "/json"), ("GET", "/stats"), ("POST", "/start"), ("POST", "/drain")),
            *(("POST", "/stop?t=1"), ("DELETE", "")),
        )
    ]
    nothing = (403, {"message": "that is no container of the services that are scaled here"})
    assert answers == [nothing] * 6
    assert it.changes == []


def test_a_name_or_the_beginning_of_an_id_is_no_id(it: Setting) -> None:
    for name in (
        "hansa-executor-2",
        it.second[:12],
        it.second.upper().replace("0", "A"),
        "",
        it.second + "0",
    ):
        for action in ("/start", "/json"):
            method = "POST" if action == "/start" else "GET"
            assert it.ask(method, f"/containers/{name}{action}")[0] == 403
    assert it.engine.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "//containers/json",
        "/./containers/json",
        "/x/../containers/json",
        "/containers//json",
        "/containers/json/",
        "/containers/json?",
        "/containers/json#x",
        "/%63ontainers/json",
        "/containers/%6ason",
        "/containers/ID/../OTHER/json",
        "/containers/ID/%2e%2e/OTHER/json",
        "/containers/ID%2f..%2fOTHER/json",
        "/containers/ID/json/../../OTHER/json",
        "/containers/ID;x/json",
        "/containers/ID%00/json",
        "\\containers\\json",
        "http://docker/containers/json",
        "*",
        "unix:/var/run/docker.sock",
    ],
)
def test_a_target_that_has_to_be_tidied_up_first_is_none(it: Setting, target: str) -> None:
    target = target.replace("ID", it.first).replace("OTHER", it.other)
    answer = it.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert it.engine.requests == []


START = f"POST /containers/{ID}/start HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "content",
    [
        START + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + "transfer-ENCODING : chunked\r\n\r\n0\r\n\r\n",
        START + "Content-Length: 5\r\n\r\n{...}",
        START + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        START + "Content-Length: +0\r\n\r\n",
        START + "Content-Length: 99999999999999999999\r\n\r\n",
        START + "Content-Length: 0\r\n\r\nGET /info HTTP/1.1\r\n\r\n",
        START + "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
        START + "Connection: upgrade\r\n\r\n",
        START + "Expect: 100-continue\r\n\r\n",
        START + " folded: x\r\n\r\n",
        START + "X: a\nTransfer-Encoding: chunked\r\n\r\n",
        START + "no colon\r\n\r\n",
        START + "X: " + "a" * 5000 + "\r\n\r\n",
        START.replace("HTTP/1.1", "HTTP/2") + "\r\n",
        START.replace(" HTTP/1.1", "") + "\r\n",
        START.replace("POST ", "POST  ") + "\r\n",
        START.replace("POST", "post") + "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "GET /containers/json HTTP/1.1\r\nX: \xe4\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_not_read(it: Setting, content: str) -> None:
    for known in (ID, it.second):
        answer = it.raw(content.replace(ID, known).encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert it.engine.requests == []


def test_a_body_without_end_and_an_asker_without_words_hold_nobody_up(it: Setting) -> None:
    began = time.monotonic()
    assert it.raw(b"GET /containers/js", shut=False).startswith(b"HTTP/1.1 403 ")
    assert time.monotonic() - began < 5.0
    assert it.raw(b"A" * 10_000_000, shut=False)[:12] in (b"HTTP/1.1 403", b"")
    assert it.ask("GET", "/containers/json")[0] == 200


def test_there_are_never_more_containers_than_were_named(it: Setting) -> None:
    answers = [it.ask("POST", "/containers/create?service=executor")[0] for _ in range(4)]
    assert answers == [201, 201, 409, 409]


def test_what_compose_made_is_not_removed(it: Setting) -> None:
    it.ask("POST", f"/containers/{it.first}/stop?t=1")
    assert it.ask("DELETE", f"/containers/{it.first}")[0] == 403
    it.ask("POST", f"/containers/{it.second}/stop?t=1")
    assert it.ask("DELETE", f"/containers/{it.second}")[0] == 200
    # Running ones are not removed either: the gate forces nothing.
    made = it.ask("POST", "/containers/create?service=executor")[1]["Id"]
    it.ask("POST", f"/containers/{made}/start")
    assert it.ask("DELETE", f"/containers/{made}")[0] == 409


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"Privileged": True}, "Privileged"),
        ({"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}, "/var/run/docker.sock of the host"),
        ({"Binds": ["../x:/x"]}, "of the host"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}, "bind is mounted"),
        (
            {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig": {"Options": {"device": "/"}}}}]},
            "options of a driver",
        ),
        ({"CapAdd": ["NET_ADMIN"]}, "NET_ADMIN"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "Devices"),
        ({"PidMode": "host"}, "PidMode is host"),
        ({"NetworkMode": "host"}, "NetworkMode is host"),
        ({"NetworkMode": "container:abc"}, "NetworkMode is container:abc"),
        ({"SecurityOpt": ["seccomp=unconfined"]}, "seccomp=unconfined"),
        ({"VolumesFrom": ["control"]}, "VolumesFrom"),
    ],
)
def test_a_service_with_privileges_is_not_multiplied(it: Setting, host: dict[str, Any], said: str) -> None:
    it.engine.containers[it.first]["HostConfig"].update(host)
    status, answer = it.ask("POST", "/containers/create?service=executor")
    assert status == 409
    assert said in answer["message"]
    assert it.changes == []


def test_a_volume_that_is_a_folder_of_the_host_is_not_mounted_again(it: Setting) -> None:
    it.engine.volume_options["hansa_server"] = {"type": "none", "o": "bind", "device": "/etc"}
    status, answer = it.ask("POST", "/containers/create?service=executor")
    assert (status, it.changes) == (409, [])
    assert "volume hansa_server has a driver with options" in answer["message"]


def test_the_actuator_scales_up_and_down_through_it(it: Setting) -> None:
    actuator = it.docker()
    assert actuator.read() == Replicas(2, ids=(it.first, it.second))
    assert actuator.scale(4).ready == 4
    assert actuator.scale(4).ready == 4
    assert len(it.engine.containers) == 8
    # Told to leave they are told again, and are neither counted nor killed while they work.
    found = actuator.scale(1)
    assert (found.ready, found.leaving, found.ids) == (1, 3, (it.first,))
    assert it.docker().read() == found
    # Wanted again while those leave: the gate's bound holds, and the sentence says so.
    with pytest.raises(ActuatorError, match="there are 4 containers"):
        actuator.scale(2)
    for container in it.engine.containers.values():
        if container["Config"]["Labels"].get(MADE_HERE):
            container["State"]["Status"] = "exited"
    assert actuator.read() == Replicas(1, ids=(it.first,))
    assert it.second not in it.engine.containers
    assert len([entry for entry in it.changes if entry[0] == "DELETE"]) == 3
    assert not any("signal=SIGKILL" in entry[1] or "/stop" in entry[1] for entry in it.changes)
    assert actuator.scale(2).ready == 2


def test_one_that_takes_too_long_is_stopped_with_grace(it: Setting) -> None:
    now = [0.0]
    actuator = it.docker(drain_s=600.0, now=lambda: now[0])
    actuator.scale(1)
    now[0] = 601.0
    actuator.read()
    assert it.changes[-1][1] == f"/containers/{it.second}/stop?t=10"
    assert actuator.read() == Replicas(1, ids=(it.first,))
    assert it.second not in it.engine.containers


def test_what_is_not_healthy_does_not_serve(it: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    real = it.engine.answer

    def answer(method: str, target: str, body: Any) -> tuple[int, Any]:
        status, found = real(method, target, body)
        if isinstance(found, list):
            found[1]["Status"] = "Up 2 seconds (health: starting)"
        return status, found

    monkeypatch.setattr(it.engine, "answer", answer)
    found = it.docker().read()
    assert (found.ready, found.starting) == (1, 1)


def test_the_load_is_a_share(it: Setting) -> None:
    now = [0.0]
    actuator = it.docker(now=lambda: now[0])
    assert actuator.load() == Load(None, 0.1)
    now[0] = 10.0
    assert actuator.load() == Load(0.0, 0.1)


def test_a_gate_that_is_away_and_an_engine_that_is_away_are_said(it: Setting, tmp_path: Path) -> None:
    away = Docker(tmp_path / "none.sock", "executor", record=tmp_path / "r.json")
    with pytest.raises(ActuatorError, match=r"does not answer .* start it with"):
        away.read()
    with pytest.raises(ActuatorError, match="no container of service 'scoring'"):
        Docker(it.socket, "scoring", record=tmp_path / "r.json").read()
    gate = Gate(tmp_path / "nowhere.sock", "hansa", {"executor": 1})
    assert gate.answer(Wish("list")).status == 502


def test_containers_without_labels_and_answers_of_another_shape_do_not_end_it(
    it: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = it.engine.answer

    def unlabelled(method: str, target: str, body: Any) -> tuple[int, Any]:
        status, found = real(method, target, body)
        return status, [*found, {**found[0], "Id": ID, "Labels": None}]

    monkeypatch.setattr(it.engine, "answer", unlabelled)
    status, found = it.ask("GET", "/containers/json")
    assert (status, [entry["Id"] for entry in found]) == (200, [it.first, it.second])
    for answer in (["no container"], [{"Labels": ["a", "list"]}]):
        monkeypatch.setattr(it.engine, "answer", lambda *_, answer=answer: (200, answer))
        assert it.ask("GET", "/containers/json")[0] == 502


def test_its_socket_is_not_for_everybody_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    listen(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listen(path).close()
    plain = tmp_path / "file"
    plain.write_text("precious")
    with pytest.raises(ValueError, match="is in the way"):
        listen(plain)
    assert plain.read_text() == "precious"


def test_the_process_serves_and_ends_when_it_is_told(it: Setting, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hansa.sidecar.docker_gate", "--docker", str(tmp_path / "docker.sock")]
    argv += ["--listen", str(tmp_path / "own.sock"), "--project", "hansa", "--service", "executor=3"]
    running = subprocess.Popen(argv, stderr=subprocess.PIPE, env={**os.environ})
    try:
        end = time.monotonic() + 20
        while not (tmp_path / "own.sock").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(ask(tmp_path / "own.sock", "GET", "/containers/json")[1]) == 2
        running.terminate()
        assert running.wait(10) == 0
        assert not (tmp_path / "own.sock").exists()
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("service", ["executor", "executor=", "=4", "a/b=4", "executor=-1"])
def test_wrong_input_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    options = ["--listen", str(tmp_path / "s"), "--project", "hansa", "--service", service]
    assert main(options) == 2
    assert "expected NAME=MOST" in capsys.readouterr().err


def test_a_wish_is_what_was_asked_for() -> None:
    assert read_wish(f"POST /containers/{ID}/stop?t=7 HTTP/1.1\r\nHost: x") == Wish("stop", id=ID, seconds=7)
    with pytest.raises(Forbidden):
        read_wish(f"POST /containers/{ID}/stop?t=\u0667 HTTP/1.1")
