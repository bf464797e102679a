"""Control's API as the command line uses it: one short-lived connection, typed answers, errors as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from hansa.cli.instance import Instance
from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.typed import explain
from hansa.server.records import EventRecord, JobRecord, RoundRecord

T = TypeVar("T")
_TIMEOUT_S = 5.0
_INPUT_WAS_WRONG = (404, 422)


class Control:
    """One consortium's control.

    Parameters
    ----------
    url : e.g. http://127.0.0.1:9480
    token : bearer token; its kind decides what is allowed
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {token}"}
        # A proxy of the environment is for the outside; control never is.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    @classmethod
    def of(cls, instance: Instance, scope: str = "read") -> Self:
        """Control of an instance, with its token of that scope."""
        tokens = instance.tokens
        if scope not in tokens:
            raise InputError(f"{instance.control / 'tokens.json'}: field '{scope}' is missing")
        return cls(instance.control_url, tokens[scope])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, plan: JobPlan) -> JobRecord:
        """Queue a job; sent again, the same plan is the same job."""
        return self._ask("POST", "/v1/jobs", JobRecord, body=plan.model_dump(mode="json"))

    def job(self, job: str) -> JobRecord:
        """A job by its id or the beginning of it."""
        return self._ask("GET", f"/v1/jobs/{job}", JobRecord)

    def jobs(self) -> list[JobRecord]:
        """All jobs, the newest last."""
        return self._ask("GET", "/v1/jobs", list[JobRecord])

    def stop(self, job: str) -> JobRecord:
        """Stop a job for good."""
        return self._ask("POST", f"/v1/jobs/{job}/stop", JobRecord)

    def rounds(self, job: str, after: int = 0) -> list[RoundRecord]:
        """Rounds with a number above `after`, the newest last."""
        return self._ask("GET", f"/v1/jobs/{job}/rounds", list[RoundRecord], query={"after": after})

    def events(self, after: int = 0) -> list[EventRecord]:
        """Lines of the event log above `after`, the newest last."""
        return self._ask("GET", "/v1/events", list[EventRecord], query={"after": after})

    def members(self) -> list[dict[str, Any]]:
        """Members of the charter and what is known of each now."""
        return self._ask("GET", "/v1/members", list[dict[str, Any]])

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
    ) -> T:
        try:
            response = self._http.request(method, path, json=body, params=query)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"control does not answer at {self.url} ({reason}); start it with: hansa server start"
            ) from None
        if not response.is_success:
            sentence = f"control at {self.url}: {_reason(response)}"
            raise InputError(sentence) if response.status_code in _INPUT_WAS_WRONG else HansaError(sentence)
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError as error:
            raise HansaError(f"control at {self.url} answered something else: {explain(error)}") from None


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {response.status_code}"
