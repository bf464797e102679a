"""Replicas as pods of one Deployment, through its scale subresource and nothing else of the cluster."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .replicas import ActuatorError, Load, Replicas

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 10.0
_MOST_BYTES = 1024 * 1024
# Somebody else may write between our reading and our writing, but hardly so often.
_TRIES = 4
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")


@dataclass(frozen=True)
class Access:
    """Where the API server is and who asks. The token is read for each request: it is changed every hour."""

    host: str
    port: int
    namespace: str
    token_file: Path
    ca_file: Path


def pod_access(
    server: str = "", token_file: Path | None = None, ca_file: Path | None = None, namespace: str = ""
) -> Access:
    """What is not given is what Kubernetes gives every pod.

    Raises
    ------
    ActuatorError : neither given nor in a pod
    """
    token_file, ca_file = token_file or _POD / "token", ca_file or _POD / "ca.crt"
    if server:
        parts = urlsplit(server)
        if parts.scheme != "https" or not parts.hostname:
            raise ActuatorError(f"'{server}' is no https://HOST:PORT; a token goes over TLS alone")
        host, port = parts.hostname, parts.port or 443
    else:
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST", ""),
            int(os.environ.get("KUBERNETES_SERVICE_PORT", "443")),
        )
        if not host:
            raise ActuatorError("this is no pod: name 'server', 'token_file' and 'ca_file' of the cluster")
    if not namespace:
        try:
            namespace = (_POD / "namespace").read_text().strip()
        except OSError:
            raise ActuatorError("this is no pod: name the 'namespace'") from None
    if not _NAME.match(namespace):
        raise ActuatorError(f"'{namespace}' is no namespace")
    return Access(host, port, namespace, token_file, ca_file)


class Kubernetes:
    """The replicas of one Deployment.

    The scale subresource knows how many pods there are, not how many serve: one counts as starting for as long as
    the service's start-up takes.

    Parameters
    ----------
    startup_s : seconds from asking for a pod until it serves
    observe : only look; `scale` raises
    """

    def __init__(
        self,
        access: Access,
        deployment: str,
        *,
        startup_s: float,
        observe: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not _NAME.match(deployment):
            raise ActuatorError(f"'{deployment}' is no name of a Deployment")
        self._access, self._deployment = access, deployment
        self._startup_s, self._observe, self._now = startup_s, observe, now
        self._path = f"/apis/apps/v1/namespaces/{access.namespace}/deployments/{deployment}/scale"
        # When pods were asked for, one entry a pod.
        self._asked: list[float] = []

    def read(self) -> Replicas:
        """Pods that are wanted: those that were there long enough serve."""
        return self._replicas(self._ask("GET"))

    def scale(self, to: int) -> Replicas:
        """Write the number that is wanted, on top of what was read: who writes in between is not overwritten unseen."""
        if self._observe:
            raise ActuatorError(f"'{self._deployment}' is only looked at here; nothing is started or stopped")
        for _ in range(_TRIES):
            scale = self._ask("GET")
            wanted, version = _wanted(scale), scale["metadata"]["resourceVersion"]
            if wanted == to:
                return self._replicas(scale)
            body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": to}}
            answer = self._ask("PATCH", body)
            if answer is None:
                continue
            self._asked = self._asked[: max(0, to - wanted + len(self._asked))]
            self._asked += [self._now()] * max(0, to - wanted)
            return self._replicas(answer)
        raise ActuatorError(
            f"deployment '{self._deployment}' was written by somebody else {_TRIES} times in a row; "
            "let one alone scale it (an HPA of the cluster?)"
        )

    def load(self) -> Load:
        """Not known: the cluster's metrics would take another permission."""
        return Load()

    def _replicas(self, scale: dict[str, Any]) -> Replicas:
        wanted, there = _wanted(scale), int(scale.get("status", {}).get("replicas", 0))
        now = self._now()
        self._asked = [at for at in self._asked if now - at < self._startup_s]
        ready = max(0, min(there, wanted - len(self._asked)))
        return Replicas(ready, wanted - ready, max(0, there - wanted))

    def _ask(self, method: str, body: dict[str, Any] | None = None) -> Any:
        """The scale object, or None where it was changed since it was read."""
        access = self._access
        try:
            token = access.token_file.read_text().strip()
            trust = ssl.create_default_context(cafile=str(access.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ActuatorError(f"{access.token_file}, {access.ca_file}: cannot be used ({error})") from None
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        connection = http.client.HTTPSConnection(access.host, access.port, timeout=_TIMEOUT_S, context=trust)
        try:
            connection.request(method, self._path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ActuatorError(f"{access.host}:{access.port} does not answer: {error}") from None
        finally:
            connection.close()
        return self._judge(response.status, answer)

    def _judge(self, status: int, answer: bytes) -> Any:
        where = f"deployment '{self._deployment}' in namespace '{self._access.namespace}'"
        if status == 409:
            return None
        if status == 401:
            raise ActuatorError(
                f"{where}: the cluster does not accept the token of {self._access.token_file}"
            )
        if status == 403:
            raise ActuatorError(
                f"{where}: not allowed; the service account needs get and patch of deployments/scale, "
                "see deploy/kubernetes/rbac.yaml"
            )
        if status == 404:
            raise ActuatorError(f"{where}: there is none; correct 'deployment' and 'namespace'")
        reason = "no Scale object with its version"
        try:
            scale = json.loads(answer)
            if status != 200:
                reason = str(scale.get("message", ""))[:200]
            # Without a version it would be written over whatever somebody else wrote.
            elif scale["kind"] == "Scale" and scale["metadata"]["resourceVersion"]:
                _wanted(scale)
                return scale
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise ActuatorError(f"{where}: the cluster answered {status}: {reason}")


def _wanted(scale: dict[str, Any]) -> int:
    # The API leaves out a number that is zero.
    return int(scale["spec"].get("replicas", 0))
