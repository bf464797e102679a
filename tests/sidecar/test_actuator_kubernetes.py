"""Pods through the scale subresource: versions heeded, permissions said, nothing else of the cluster asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cluster_stub import DEPLOYMENT, Cluster, listening_cluster

from hansa.cli.certificates import issue_authority
from hansa.sidecar.actuators import ActuatorError, Load, Replicas
from hansa.sidecar.actuators.kubernetes import Kubernetes, pod_access


class Setting:
    """A cluster, and a clock for the actuator."""

    def __init__(self, folder: Path, cluster: Cluster, url: str) -> None:
        self.folder, self.cluster, self.url, self.at = folder, cluster, url, 1000.0

    def actuator(self, deployment: str = "hansa-executor", **settings: Any) -> Kubernetes:
        access = pod_access(self.url, self.folder / "token", self.folder / "ca.crt", "hansa")
        return Kubernetes(access, deployment, startup_s=30.0, now=lambda: self.at, **settings)


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Setting]:
    with listening_cluster(tmp_path) as (cluster, url):
        yield Setting(tmp_path, cluster, url)


def test_it_reads_and_writes_the_number_of_replicas(it: Setting) -> None:
    actuator = it.actuator()
    assert actuator.read() == Replicas(1)
    # One exists already, another was asked for and does not: neither serves before its start-up is over.
    assert actuator.scale(3) == Replicas(1, 2)
    assert it.cluster.wanted == 3
    it.cluster.there = 3
    assert actuator.read() == Replicas(1, 2)
    it.at += 30.0
    assert actuator.read() == Replicas(3)
    before = len(it.cluster.requests)
    assert actuator.scale(3) == Replicas(3)
    assert [entry[0] for entry in it.cluster.requests[before:]] == ["GET"]
    # Pods that have not ended yet are leaving.
    assert actuator.scale(1) == Replicas(1, leaving=2)
    assert actuator.scale(0) == Replicas(0, leaving=3)
    it.cluster.there = 0
    assert actuator.read() == Replicas(0)
    assert actuator.load() == Load()


def test_it_asks_for_nothing_but_the_scale_of_that_deployment(it: Setting) -> None:
    actuator = it.actuator()
    actuator.scale(2)
    actuator.read()
    assert {(method, path) for method, path, _ in it.cluster.requests} == {
        ("GET", f"{DEPLOYMENT}/scale"),
        ("PATCH", f"{DEPLOYMENT}/scale"),
    }


def test_what_somebody_else_wrote_in_between_is_read_before_it_is_overwritten(it: Setting) -> None:
    actuator = it.actuator()
    writes = [5, 6]

    def other() -> None:
        if writes:
            it.cluster.write(writes.pop(0))

    it.cluster.between = other
    actuator.scale(3)
    assert it.cluster.wanted == 3
    patches = [body for method, _, body in it.cluster.requests if method == "PATCH"]
    assert [body["metadata"]["resourceVersion"] for body in patches] == ["7", "8", "9"]


def test_two_that_scale_the_same_are_told_of_each_other(it: Setting) -> None:
    it.cluster.between = lambda: it.cluster.write(9)
    with pytest.raises(ActuatorError, match="let one alone scale it"):
        it.actuator().scale(3)
    assert it.cluster.wanted == 9


def test_what_another_wrote_already_is_not_written_again(it: Setting) -> None:
    def other() -> None:
        it.cluster.between = lambda: None
        it.cluster.write(3)

    it.cluster.between = other
    it.actuator().scale(3)
    assert it.cluster.version == 8


def test_what_is_wrong_is_said_with_what_to_do(it: Setting, tmp_path: Path) -> None:
    with pytest.raises(ActuatorError, match="there is none; correct 'deployment'"):
        it.actuator("hansa-other").read()
    it.cluster.role["deployments/scale"] = {"get"}
    with pytest.raises(ActuatorError, match="needs get and patch of deployments/scale"):
        it.actuator().scale(3)
    it.cluster.token = "token-2"
    with pytest.raises(ActuatorError, match="does not accept the token"):
        it.actuator().read()
    # A token that is changed in its file is used from then on.
    actuator = it.actuator()
    (tmp_path / "token").write_text("token-2\n")
    assert actuator.read() == Replicas(1)
    (tmp_path / "token").unlink()
    with pytest.raises(ActuatorError, match="cannot be used"):
        actuator.read()


def test_a_server_of_another_ca_is_not_given_the_token(it: Setting, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(issue_authority("other", datetime.now(UTC)).certificate)
    with pytest.raises(ActuatorError, match=r"does not answer: .*certificate"):
        it.actuator().read()
    assert it.cluster.requests == []


def test_an_answer_that_is_no_scale_is_said(it: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ((500, {"message": "etcd is away"}), (200, {"kind": "Pod"}), (200, {"kind": "Scale"})):
        monkeypatch.setattr(it.cluster, "answer", lambda *_, answer=answer: answer)
        with pytest.raises(ActuatorError, match=r"the cluster answered (500: etcd is away|200)"):
            it.actuator().read()


@pytest.mark.parametrize("metadata", [None, {}, {"resourceVersion": ""}])
def test_a_scale_without_its_version_is_not_written(
    it: Setting, monkeypatch: pytest.MonkeyPatch, metadata: Any
) -> None:
    answer = it.cluster.scale() | {"metadata": metadata}
    methods: list[str] = []

    def answered(method: str, *_: Any) -> tuple[int, Any]:
        methods.append(method)
        return 200, answer

    monkeypatch.setattr(it.cluster, "answer", answered)
    with pytest.raises(ActuatorError, match="the cluster answered 200: no Scale object with its version"):
        it.actuator().scale(3)
    assert methods == ["GET"]


def test_outside_of_a_pod_the_cluster_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ActuatorError, match="this is no pod: name 'server'"):
        pod_access(namespace="hansa")
    with pytest.raises(ActuatorError, match="a token goes over TLS alone"):
        pod_access("http://127.0.0.1:8001", namespace="hansa")
    with pytest.raises(ActuatorError, match="name the 'namespace'"):
        pod_access("https://127.0.0.1:6443")
    with pytest.raises(ActuatorError, match="is no namespace"):
        pod_access("https://127.0.0.1:6443", namespace="../x")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert pod_access(namespace="hansa").host == "10.0.0.1"


def test_whoever_only_looks_writes_nothing(it: Setting) -> None:
    with pytest.raises(ActuatorError, match="only looked at"):
        it.actuator(observe=True).scale(3)
    assert it.actuator(observe=True).read() == Replicas(1)
    assert {method for method, _, _ in it.cluster.requests} == {"GET"}
