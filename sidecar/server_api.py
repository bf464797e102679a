"""Control's API as the sidecar uses it: one connection, plain dictionaries, two kinds of failure.

The command line has a typed client; this one is made of the standard library alone, to keep the sidecar small. A
server that is away is asked again, a request that was refused is not.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT_S = 5.0
# An answer that is larger is none of control's.
MOST_BYTES = 32 * 1024 * 1024


class Away(Exception):
    """The server does not answer, or not as control does."""


class Refused(Exception):
    """The server answered that it will not: asking again would not help."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ServerApi:
    """One consortium's control.

    Parameters
    ----------
    url : e.g. http://127.0.0.1:9480
    token : bearer token that may write

    Raises
    ------
    ValueError : the address is not of that form
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"control's address is http://HOST:PORT, not '{url}'")
        self.url = url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def close(self) -> None:
        """Close the connection; another request opens it again."""
        self._connection.close()

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs, the newest last."""
        return self._list("GET", "/v1/jobs", limit=100)

    def job(self, job: str) -> dict[str, Any]:
        """One job."""
        return self._dict("GET", f"/v1/jobs/{job}")

    def rounds(self, job: str, after: int) -> list[dict[str, Any]]:
        """Rounds above `after` that stand, the newest last."""
        return self._list("GET", f"/v1/jobs/{job}/rounds", after=after, limit=1000)

    def attempts(self, job: str, after: int) -> list[dict[str, Any]]:
        """Attempts above `after`, the newest last."""
        return self._list("GET", f"/v1/jobs/{job}/attempts", after=after, limit=1000)

    def metrics(self, job: str, name: str, limit: int) -> list[dict[str, Any]]:
        """The first figures of that name, the initial model's before all."""
        return self._list("GET", f"/v1/jobs/{job}/metrics", name=name, limit=limit)

    def knobs(self, job: str) -> list[dict[str, Any]]:
        """A job's knobs and their ranges."""
        return self._list("GET", f"/v1/jobs/{job}/knobs")

    def kept(self, job: str) -> list[dict[str, Any]]:
        """Rounds that can be gone back to."""
        return self._list("GET", f"/v1/jobs/{job}/kept")

    def charter(self) -> dict[str, Any]:
        """What the charter says."""
        return self._dict("GET", "/v1/charter")

    def decisions(self, job: str, after: int) -> list[dict[str, Any]]:
        """What was decided about a job above that id, the newest last."""
        return self._list("GET", f"/v1/jobs/{job}/decisions", after=after, limit=1000)

    def decide(self, job: str, decision: dict[str, Any], expected: dict[str, float]) -> dict[str, Any]:
        """Enter a decision and set its knobs, once a key."""
        body = {"decision": decision, "expected": expected}
        return self._dict("POST", f"/v1/jobs/{job}/decisions", body)

    def recover(
        self, job: str, decision: dict[str, Any], *, to: int, undoes: int, expected: dict[str, float]
    ) -> dict[str, Any]:
        """Take a running job back to a kept round, once a key."""
        body = {"decision": decision, "to": to, "undoes": undoes, "expected": expected}
        return self._dict("POST", f"/v1/jobs/{job}/recover", body)

    def pause(self, job: str, by: str, reason: str) -> dict[str, Any]:
        """Have a job pause after its attempt."""
        return self._dict("POST", f"/v1/jobs/{job}/pause", {"by": by, "reason": reason})

    def hold(self, member: str, by: str, reason: str) -> dict[str, Any]:
        """Hold a member out of selection, until somebody releases it."""
        return self._dict("POST", f"/v1/members/{member}/hold", {"by": by, "reason": reason})

    def enter_processes(self, readings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Enter what processes hold now; what control itself holds."""
        found = self._ask("POST", "/v1/processes", list(readings))
        return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []

    def queue(self) -> dict[str, Any]:
        """How many jobs wait for an executor, and how many run."""
        return self._dict("GET", "/v1/queue")

    def enter_scaling(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Enter decisions about services, each service and moment once."""
        return self._dict("POST", "/v1/scaling", list(entries))

    def _list(self, method: str, path: str, **query: str | int) -> list[dict[str, Any]]:
        found = self._ask(method, path + (f"?{urlencode(query)}" if query else ""))
        if not isinstance(found, list) or not all(isinstance(it, dict) for it in found):
            raise Away(f"{self.url}{path} answered something else than a list")
        return found

    def _dict(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found = self._ask(method, path, body)
        if not isinstance(found, dict):
            raise Away(f"{self.url}{path} answered something else than an object")
        return found

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body, allow_nan=False)
        try:
            self._connection.request(method, path, content, self._headers)
            response = self._connection.getresponse()
            answer = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            # Nothing of a broken connection is used again.
            self._connection.close()
            raise Away(f"control does not answer at {self.url}: {error or type(error).__name__}") from None
        if len(answer) > MOST_BYTES:
            self._connection.close()
            raise Away(f"{self.url}{path} answered more than {MOST_BYTES} bytes")
        try:
            document = json.loads(answer)
        except ValueError:
            raise Away(f"{self.url}{path} answered {response.status} and no JSON") from None
        if response.status >= 500:
            raise Away(f"control at {self.url} answered {response.status}")
        if response.status >= 400:
            detail = document.get("detail") if isinstance(document, dict) else None
            raise Refused(response.status, str(detail or f"it answered {response.status}"))
        return document
