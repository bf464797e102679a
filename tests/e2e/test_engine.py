"""The engine as real processes: rounds through lane and stock, kills, restarts, refusals, leftovers."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from engine import Engine, engine, free_port, until

from hansa.cli.certificates import issue_authority
from hansa.contract.frames import serve_frames
from hansa.server.runs import build_fab, run_status, start_run, stop_run
from hansa.strategies.exchange import Exchange, ExchangeError

pytestmark = pytest.mark.e2e


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path) as started:
        yield started


def _serve_agents(it: Engine) -> list[object]:
    return [serve_frames(it.work_socket(key), lambda payload, _: payload[::-1], 0o600) for key in it.members]


@pytest.mark.parametrize("options", [(), ("--no-lane",)], ids=["lane", "stock"])
@pytest.mark.parametrize("size", [5, 3_000_000])
def test_the_same_round_goes_through_lane_and_stock(it: Engine, options: tuple[str, ...], size: int) -> None:
    it.start_superlink(*options)
    agents = _serve_agents(it)
    for key in it.members:
        it.start_node(key)
    exchange = Exchange(it.grid())
    nodes = until(lambda: len(exchange.nodes()) == 2 and exchange.nodes())
    assert all(key.startswith(b"-----BEGIN PUBLIC KEY") for _, key in nodes)
    payload = os.urandom(size)
    for _ in range(2):
        replies = dict(exchange.ask({node: payload for node, _ in nodes}, 60.0))
        assert replies == {node: payload[::-1] for node, _ in nodes}
    assert len(agents) == 2


def test_nodes_outlive_a_superlink_that_was_killed(it: Engine) -> None:
    superlink = it.start_superlink()
    agents = _serve_agents(it)
    nodes = [it.start_node(key) for key in it.members]
    before = until(lambda: _online(it, 2))
    superlink.kill()
    superlink.wait()
    it.start_superlink()
    exchange = Exchange(it.grid())
    after = until(lambda: len(exchange.nodes()) == 2 and exchange.nodes(), 40)
    assert {node for node, _ in after}.isdisjoint(before)
    assert dict(exchange.ask({node: b"ab" for node, _ in after}, 30.0)) == {node: b"ba" for node, _ in after}
    assert all(node.poll() is None for node in nodes)
    assert len(agents) == 2


def _online(it: Engine, count: int) -> set[str]:
    ids = {
        line.rsplit(" ", 1)[-1]
        for key in it.members
        for line in it.log(f"node-{key.stem}").splitlines()
        if "as node" in line
    }
    return ids if len(ids) == count else set()


def test_a_node_killed_in_a_round_is_back_for_the_next(it: Engine) -> None:
    it.start_superlink()
    agents = _serve_agents(it)
    for key in it.members:
        it.start_node(key)
    exchange = Exchange(it.grid())
    nodes = until(lambda: len(exchange.nodes()) == 2 and exchange.nodes())
    victim = it.processes[f"node-{it.members[0].stem}"]
    victim.kill()
    victim.wait()
    it.start_node(it.members[0])
    replies = dict(exchange.ask({node: b"ab" for node, _ in nodes}, 30.0, reask_after_s=2.0))
    assert replies == {node: b"ba" for node, _ in nodes}
    assert len(agents) == 2


def test_an_agent_that_is_down_costs_no_time(it: Engine) -> None:
    it.start_superlink()
    it.start_node(it.members[0])
    exchange = Exchange(it.grid())
    ((node, _),) = until(lambda: len(exchange.nodes()) == 1 and exchange.nodes())
    began = time.monotonic()
    ((_, reply),) = exchange.ask({node: b"ab"}, 30.0)
    assert time.monotonic() - began < 3.0
    assert isinstance(reply, ExchangeError)
    assert "agent-unavailable" in str(reply)


def test_held_pulls_delay_no_exit(it: Engine) -> None:
    superlink = it.start_superlink()
    node = it.start_node(it.members[0])
    until(lambda: _online(it, 1))
    time.sleep(0.5)
    began = time.monotonic()
    node.terminate()
    assert node.wait(10) == 0
    assert time.monotonic() - began < 3.0
    it.start_node(it.members[1])
    until(lambda: _online(it, 2))
    time.sleep(0.5)
    began = time.monotonic()
    superlink.terminate()
    assert superlink.wait(10) == 0
    assert time.monotonic() - began < 4.0


def test_a_key_that_is_not_registered_ends_the_node_with_a_sentence(it: Engine) -> None:
    it.start_superlink()
    stranger = it.new_key("stranger")
    assert it.start_node(stranger).wait(30) == 2
    assert it.log("node-stranger").strip().splitlines()[-1].startswith("hansa node: ")
    assert "not registered" in it.log("node-stranger")


def test_a_server_of_another_ca_ends_the_node_with_a_sentence(it: Engine) -> None:
    it.start_superlink()
    other = it.folder / "other.crt"
    other.write_bytes(issue_authority("other", datetime.now(UTC)).certificate)
    assert it.start_node(it.members[0], ca=other).wait(30) == 2
    assert "not trusted" in it.log(f"node-{it.members[0].stem}")


def test_a_check_says_whether_the_node_may_join(it: Engine) -> None:
    assert it.start_node(it.members[0], "--once-check").wait(30) == 1
    it.start_superlink()
    assert it.start_node(it.members[0], "--once-check").wait(30) == 0
    assert "admits this node" in it.log(f"node-{it.members[0].stem}")


def test_members_reach_the_fleet_and_nothing_else(it: Engine) -> None:
    it.start_superlink()
    host, port = it.fleet.split(":")
    context = ssl.create_default_context(cafile=str(it.ca))
    tries = [
        "/v1/control/list-runs",
        "/v1/runtime/get-nodes",
        "/health",
        "/docs",
        "/openapi.json",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/..%2fcontrol%2flist-runs",
        "/v1/%63ontrol/list-runs",
        "//v1/control/list-runs",
        "/v1//control/list-runs",
        "/v1/fleet/pull-messages/../../control/list-runs",
        f"http://{it.inner}/v1/control/list-runs",
    ]
    for target in tries:
        with (
            socket.create_connection((host, int(port)), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            # By hand: clients tidy such paths up before they send them.
            tls.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            assert tls.recv(100).split(b" ")[1] == b"404", target
    inner = httpx.post(
        f"http://{it.inner}/v1/control/list-runs", headers={"content-type": "application/protobuf"}
    )
    assert inner.status_code == 200


SLEEPER = """
import time
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    open(context.run_config["sign"], "w").close()
    time.sleep(600)
"""


def _sleeping_run(it: Engine) -> tuple[int, int]:
    """A run whose ServerApp sleeps, and the process it sleeps in."""
    import tomli_w
    from flwr.cli.build import build_fab_from_files

    sign = it.folder / "sign"
    pyproject = {
        "project": {"name": "sleeper", "version": "1.0.0", "description": "-", "license": "Apache-2.0"},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "hansa",
                    "components": {"serverapp": "sleeper:app", "clientapp": "sleeper:app"},
                    "config": {"sign": str(sign)},
                }
            }
        },
    }
    files = {"pyproject.toml": tomli_w.dumps(pyproject).encode(), "sleeper.py": SLEEPER.encode()}
    run_id = start_run(it.inner, fab=build_fab_from_files(files)[0])
    until(sign.exists, process=it.processes["executor"])
    return run_id, psutil.Process(it.processes["executor"].pid).children()[0].pid


def _gone(pid: int) -> bool:
    """Ended; whether its new parent has noticed is not ours to say."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_app_does_not_outlive_its_executor(it: Engine, how: signal.Signals) -> None:
    it.start_superlink()
    executor = it.start_executor()
    run_id, child = _sleeping_run(it)
    executor.send_signal(how)
    executor.wait(15)
    until(lambda: _gone(child), 15)
    until(lambda: (state := run_status(it.inner, run_id)) is not None and state.finished, 15)


def test_a_run_that_is_stopped_ends_its_server_app(it: Engine) -> None:
    it.start_superlink()
    executor = it.start_executor()
    run_id, child = _sleeping_run(it)
    assert stop_run(it.inner, run_id)
    until(lambda: _gone(child), 60)
    state = run_status(it.inner, run_id)
    assert state is not None
    assert state.finished
    assert state.sub_status == "stopped"
    assert not stop_run(it.inner, run_id)
    assert run_status(it.inner, 12345) is None
    assert executor.poll() is None


def test_a_wrong_secret_ends_the_executor_with_a_sentence(it: Engine) -> None:
    it.start_superlink()
    it.secret.write_bytes(b"another secret of 32 bytes......")
    assert it.start_executor().wait(30) == 2
    assert "does not accept this executor's secret" in it.log("executor")


def test_a_stock_supernode_takes_part_through_the_thin_client_app(it: Engine) -> None:
    it.start_superlink()
    agents = _serve_agents(it)
    key = it.members[0]
    it.start(
        "supernode",
        *(str(Path(sys.executable).with_name("flower-supernode")), "--root-certificates", str(it.ca)),
        *("--superlink", it.fleet, "--auth-supernode-private-key", str(key), "--port", free_port()),
        *("--node-config", f"work-socket='{it.work_socket(key)}'"),
    )
    it.start_node(it.members[1])
    exchange = Exchange(it.grid(build_fab({})))
    nodes = until(lambda: len(exchange.nodes()) == 2 and exchange.nodes())
    replies = dict(exchange.ask({node: b"ab" for node, _ in nodes}, 90.0))
    assert replies == {node: b"ba" for node, _ in nodes}
    assert len(agents) == 2


def test_slow_work_of_one_job_blocks_no_other(it: Engine) -> None:
    it.start_superlink()
    training = threading.Event()

    def answer(payload: bytes, _peer: object) -> bytes:
        if payload == b"train":
            training.wait(30)
        return payload

    with serve_frames(it.work_socket(it.members[0]), answer, 0o600):
        it.start_node(it.members[0])
        exchange = Exchange(it.grid())
        ((node, _),) = until(lambda: len(exchange.nodes()) == 1 and exchange.nodes())
        training_replies = exchange.ask({node: b"train"}, 60.0)
        first = threading.Thread(target=lambda: list(training_replies))
        first.start()
        time.sleep(0.3)
        began = time.monotonic()
        assert list(exchange.ask({node: b"unmask"}, 30.0)) == [(node, b"unmask")]
        assert time.monotonic() - began < 3.0
        training.set()
        first.join(30)
