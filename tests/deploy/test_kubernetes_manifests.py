"""The manifests refer to what is there, ask for what the code takes, and allow no more than is needed.

No cluster is asked: this reads them as a cluster would, and compares them with the code they start.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hansa.sidecar.scaler.services import KubernetesSettings, MetricsSignals, read_services

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
FOLDERS = {"hansa": ROOT, "hansa-scoring": ROOT / "scoring"}
# Made by whoever installs it (docs/scaler.md); none is in the repository.
SECRETS = {
    "hansa": {"hansa-server", "hansa-control", "hansa-sidecar"},
    "hansa-scoring": {"hansa-scoring-token"},
}
Document = dict[str, Any]


def documents(namespace: str, *kinds: str) -> list[Document]:
    """What `kubectl apply -k` would send, of those kinds."""
    folder = FOLDERS[namespace]
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    found = [it for name in listed for it in yaml.safe_load_all((folder / name).read_text())]
    return [it for it in found if not kinds or it["kind"] in kinds]


def deployments() -> Iterator[tuple[str, Document]]:
    for namespace in FOLDERS:
        for it in documents(namespace, "Deployment"):
            yield namespace, it


def containers(deployment: Document) -> list[Document]:
    pod = deployment["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


ALL = [pytest.param(namespace, it, id=it["metadata"]["name"]) for namespace, it in deployments()]


@pytest.mark.parametrize("namespace", FOLDERS)
def test_every_file_is_listed_and_every_document_is_of_the_namespace(namespace: str) -> None:
    folder = FOLDERS[namespace]
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    for it in documents(namespace):
        if it["kind"] == "Namespace":
            assert it["metadata"]["name"] == namespace
            assert it["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        else:
            assert it["metadata"]["namespace"] == namespace, it["metadata"]
    names = [(it["kind"], it["metadata"]["name"]) for it in documents(namespace)]
    assert len(names) == len(set(names))


def test_no_secret_is_in_the_repository() -> None:
    for path in ROOT.rglob("*"):
        if path.is_file():
            assert "kind: Secret" not in path.read_text()
            assert "BEGIN" not in path.read_text()


@pytest.mark.parametrize(("namespace", "deployment"), ALL)
def test_a_deployment_selects_its_own_pods_and_mounts_what_is_there(
    namespace: str, deployment: Document
) -> None:
    template = deployment["spec"]["template"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels.items() <= template["metadata"]["labels"].items()
    others = [it for it in documents(namespace, "Deployment") if it is not deployment]
    assert [it for it in others if it["spec"]["selector"]["matchLabels"] == labels] == [
        it for it in others if it["metadata"]["name"] == deployment["metadata"]["name"]
    ]
    volumes = {it["name"]: it for it in template["spec"]["volumes"]}
    claims = {it["metadata"]["name"] for it in documents(namespace, "PersistentVolumeClaim")}
    maps = {it["metadata"]["name"] for it in documents(namespace, "ConfigMap")}
    for it in volumes.values():
        if "persistentVolumeClaim" in it:
            assert it["persistentVolumeClaim"]["claimName"] in claims
        elif "configMap" in it:
            assert it["configMap"]["name"] in maps
        elif "secret" in it:
            assert it["secret"]["secretName"] in SECRETS[namespace]
        else:
            assert "emptyDir" in it
    mounted = {mount["name"] for it in containers(deployment) for mount in it["volumeMounts"]}
    assert mounted == set(volumes)


@pytest.mark.parametrize(("namespace", "deployment"), ALL)
def test_no_container_is_root_writes_its_own_files_or_keeps_a_privilege(
    namespace: str, deployment: Document
) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        **{"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for it in containers(deployment):
        assert it["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in it["resources"]["limits"]
        assert set(it["resources"]["requests"]) == {"cpu", "memory"}
        assert it["image"] == "hansa:local"
        assert not any("hostPort" in port for port in it.get("ports", []))


def test_a_service_account_is_for_whoever_scales_and_may_do_nothing_else() -> None:
    for namespace, it in deployments():
        pod, name = it["spec"]["template"]["spec"], it["metadata"]["name"]
        scales = name in ("hansa-sidecar", "hansa-scaler")
        assert pod["automountServiceAccountToken"] is scales
        assert ("serviceAccountName" in pod) is scales
        if not scales:
            continue
        [account] = documents(namespace, "ServiceAccount")
        [role] = documents(namespace, "Role")
        [binding] = documents(namespace, "RoleBinding")
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        assert documents(namespace, "ClusterRole", "ClusterRoleBinding") == []
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        subject = {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": namespace}
        assert binding["subjects"] == [subject]
        [rule] = role["rules"]
        scaled = rule.pop("resourceNames")
        assert rule == {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]}
        assert scaled == [it.deployment for it in scaled_by(namespace)]
        assert set(scaled) <= {it["metadata"]["name"] for it in documents(namespace, "Deployment")}


def services(namespace: str, folder: Path) -> Any:
    [config] = documents(namespace, "ConfigMap")
    path = folder / "scaler.toml"
    path.write_text(config["data"]["scaler.toml"])
    return read_services(path)


def scaled_by(namespace: str) -> list[KubernetesSettings]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = [it.actuator for it in services(namespace, Path(folder)).services]
    assert all(isinstance(it, KubernetesSettings) for it in found)
    return found


def test_what_is_scaled_has_no_number_that_applying_again_would_bring_back() -> None:
    for namespace, it in deployments():
        scaled = it["metadata"]["name"] in [entry.deployment for entry in scaled_by(namespace)]
        assert ("replicas" in it["spec"]) is not scaled
        if not scaled:
            assert it["spec"]["replicas"] == 1


def test_demand_is_read_from_every_replica(tmp_path: Path) -> None:
    [scoring] = services("hansa-scoring", tmp_path).services
    assert isinstance(scoring.signals, MetricsSignals)
    [each] = [it for it in documents("hansa-scoring", "Service") if it["spec"].get("clusterIP") == "None"]
    assert f"http://{each['metadata']['name']}:{each['spec']['ports'][0]['port']}/" in scoring.signals.url


@pytest.mark.parametrize("namespace", FOLDERS)
def test_a_service_leads_to_a_port_that_a_container_names(namespace: str) -> None:
    for it in documents(namespace, "Service"):
        selected = [
            deployment
            for deployment in documents(namespace, "Deployment")
            if it["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(selected) == 1, it["metadata"]["name"]
        named = {
            port["name"]: port["containerPort"]
            for container in containers(selected[0])
            for port in container.get("ports", [])
        }
        for port in it["spec"]["ports"]:
            assert named[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("namespace", FOLDERS)
def test_nothing_is_reached_but_what_is_named(namespace: str) -> None:
    policies = documents(namespace, "NetworkPolicy")
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [it["spec"] for it in policies]
    apps = {it["metadata"]["name"]: it for it in documents(namespace, "Deployment")}
    listening = {
        name: {port["containerPort"] for it in containers(found) for port in it.get("ports", [])}
        for name, found in apps.items()
    }
    opened: dict[str, set[int]] = {name: set() for name in apps}
    allowed = set()
    for it in policies:
        if it["spec"]["podSelector"] == {}:
            continue
        own = it["spec"]["podSelector"]["matchLabels"]["app"]
        assert own in apps
        for rule in it["spec"]["ingress"]:
            opened[own] |= {port["port"] for port in rule["ports"]}
            allowed |= {
                (peer, own, port["port"]) for peer in _apps(rule.get("from")) for port in rule["ports"]
            }
    assert opened == listening
    # Both ends of each way are open.
    for it in policies:
        for rule in it["spec"].get("egress", []):
            for peer in _apps(rule.get("to")):
                own = it["spec"]["podSelector"]["matchLabels"]["app"]
                assert {(own, peer, port["port"]) for port in rule["ports"]} <= allowed


def _apps(peers: list[Document] | None) -> list[str]:
    selectors = [it.get("podSelector", {}).get("matchLabels", {}) for it in peers or []]
    return [it["app"] for it in selectors if "app" in it]


def test_flowers_own_port_is_for_control_and_executors_alone() -> None:
    [policy] = [it for it in documents("hansa", "NetworkPolicy") if it["metadata"]["name"] == "superlink"]
    [inner] = [rule for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": 9440}]]
    assert _apps(inner["from"]) == ["hansa-control", "hansa-executor"]
    public = [it for it in documents("hansa", "Service") if it["spec"].get("type") == "LoadBalancer"]
    assert [port["port"] for it in public for port in it["spec"]["ports"]] == [9443]


@pytest.mark.parametrize(("namespace", "deployment"), ALL)
def test_commands_are_what_the_code_takes_and_read_what_is_mounted(
    namespace: str, deployment: Document
) -> None:
    for it in containers(deployment):
        command = it["command"]
        mounts = [mount["mountPath"] for mount in it["volumeMounts"]]
        for word in command:
            value = word.partition("=")[2]
            if value.startswith("/"):
                assert any(value.startswith(f"{mount}/") or value == mount for mount in mounts), word
        if command[0] == "python3":
            name = command[2]
            module = importlib.import_module(name)
            if hasattr(module, "__path__"):
                module = importlib.import_module(f"{name}.__main__")
            assert module._parse(command[3:])


def test_an_executor_is_drained_before_it_is_told_to_end() -> None:
    [executor] = [it for _, it in deployments() if it["metadata"]["name"] == "hansa-executor"]
    pod = executor["spec"]["template"]["spec"]
    [container] = pod["containers"]
    told = container["lifecycle"]["preStop"]["exec"]["command"][2]
    # Again and again: the kernel drops what a process 1 does not listen to yet.
    assert told == "while kill -USR1 1 2>/dev/null; do sleep 1; done"
    assert pod["terminationGracePeriodSeconds"] == 86_400
    assert "--capacity=1" in container["command"]
