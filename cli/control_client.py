"""Control's API as the command line uses it: one short-lived connection, typed answers, errors as sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hansa.cli.instance import Instance
from hansa.contract.decisions import Decision
from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.typed import explain
from hansa.server.records import (
    AttemptRecord,
    BudgetRecord,
    DecisionRecord,
    EventRecord,
    JobRecord,
    ReceiptRecord,
    RoundRecord,
    ScalingRecord,
    SpendingRecord,
)
from hansa.server.replies import (
    CharterFacts,
    KnobChange,
    KnobState,
    MemberState,
    Release,
    RolledBack,
    StartedJob,
)

T = TypeVar("T")
_TIMEOUT_S = 5.0
# Rows of one answer.
_PAGE = 1000
_UNKNOWN_TOKEN = 401
_INPUT_WAS_WRONG = (404, 422)


class Control:
    """One consortium's control.

    Parameters
    ----------
    url : e.g. http://127.0.0.1:9480
    token : bearer token; its kind decides what is allowed
    start : the command that starts it, for whoever finds it not running
    """

    def __init__(self, url: str, token: str, start: str = "hansa server start") -> None:
        self.url, self.token, self._start = url, token, start
        headers = {"Authorization": f"Bearer {token}"}
        # A proxy of the environment is for the outside; control never is.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    @classmethod
    def of(cls, instance: Instance, scope: str = "read") -> Self:
        """Control of an instance, with its token of that scope."""
        tokens = instance.tokens
        if scope not in tokens:
            raise InputError(f"{instance.tokens_path}: field '{scope}' is missing")
        return cls(instance.control_url, tokens[scope], f"hansa up --no-job --instance {instance.folder}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, plan: JobPlan) -> JobRecord:
        """Queue a job; sent again, the same plan is the same job."""
        return self._ask("POST", "/v1/jobs", JobRecord, body=plan.model_dump(mode="json"))

    def submit_started(self, plan: JobPlan, weights: NDArray[np.float64]) -> JobRecord:
        """As `submit`, of a job that starts from a model whose weights the server may have."""
        body = StartedJob.of(plan, weights).model_dump(mode="json")
        return self._ask("POST", "/v1/jobs/started", JobRecord, body=body)

    def job(self, job: str) -> JobRecord:
        """A job by its id or the beginning of it."""
        return self._ask("GET", f"/v1/jobs/{job}", JobRecord)

    def jobs(self) -> list[JobRecord]:
        """All jobs, the newest last."""
        return self._ask("GET", "/v1/jobs", list[JobRecord])

    def stop(self, job: str) -> JobRecord:
        """Stop a job."""
        return self._ask("POST", f"/v1/jobs/{job}/stop", JobRecord)

    def pause(self, job: str) -> JobRecord:
        """Pause a job after the attempt under way."""
        return self._ask("POST", f"/v1/jobs/{job}/pause", JobRecord)

    def resume(self, job: str) -> JobRecord:
        """Queue a paused, stopped or failed job again."""
        return self._ask("POST", f"/v1/jobs/{job}/resume", JobRecord)

    def roll_back(self, job: str, to: int | None, reason: str) -> RolledBack:
        """Undo the rounds of a paused job after one that is kept."""
        return self._ask("POST", f"/v1/jobs/{job}/rollback", RolledBack, body={"to": to, "reason": reason})

    def rounds(self, job: str, after: int = 0) -> list[RoundRecord]:
        """All rounds with a number above `after`, the newest last."""
        return self._pages(f"/v1/jobs/{job}/rounds", list[RoundRecord], after, lambda it: it.round)

    def attempts(self, job: str, after: int = 0) -> list[AttemptRecord]:
        """All attempts with a number above `after`, the newest last."""
        return self._pages(f"/v1/jobs/{job}/attempts", list[AttemptRecord], after, lambda it: it.attempt)

    def knobs(self, job: str) -> list[KnobState]:
        """A job's knobs and the charter's ranges."""
        return self._ask("GET", f"/v1/jobs/{job}/knobs", list[KnobState])

    def set_knobs(self, job: str, change: KnobChange) -> list[KnobState]:
        """Set some knobs, all or none."""
        return self._ask("PUT", f"/v1/jobs/{job}/knobs", list[KnobState], body=change.model_dump(mode="json"))

    def decisions(self, job: str, after: int = 0) -> list[DecisionRecord]:
        """What was decided about a job, the newest last."""
        return self._pages(f"/v1/jobs/{job}/decisions", list[DecisionRecord], after, lambda it: it.id)

    def decide(self, job: str, decision: Decision) -> DecisionRecord:
        """Enter a decision, once a key."""
        body = {"decision": decision.model_dump(mode="json")}
        return self._ask("POST", f"/v1/jobs/{job}/decisions", DecisionRecord, body=body)

    def charter(self) -> CharterFacts:
        """What the charter says that whoever steers must know."""
        return self._ask("GET", "/v1/charter", CharterFacts)

    def pin(self, job: str, names: list[str], pinned: bool, reason: str = "") -> list[KnobState]:
        """Pin knobs or open them again; all where none is named."""
        body = {"names": names, "pinned": pinned, "reason": reason}
        return self._ask("PUT", f"/v1/jobs/{job}/pins", list[KnobState], body=body)

    def release(self, job: str) -> Release:
        """What a job's released model is."""
        return self._ask("GET", f"/v1/jobs/{job}/model", Release)

    def release_tensors(self, job: str) -> bytes:
        """The released model's weights, a safetensors file."""
        return self._send("GET", f"/v1/jobs/{job}/model.safetensors").content

    def scaling(self, service: str | None = None) -> list[ScalingRecord]:
        """What the scaler decided about one service or all, the newest last."""
        only = {} if service is None else {"service": service}
        return self._pages("/v1/scaling", list[ScalingRecord], 0, lambda it: it.id, only)

    def newest_scaling(self) -> list[ScalingRecord]:
        """The newest decision about each service."""
        return self._ask("GET", "/v1/scaling/newest", list[ScalingRecord])

    def events(self, after: int = 0) -> list[EventRecord]:
        """All lines of the event log above `after`, the newest last."""
        return self._pages("/v1/events", list[EventRecord], after, lambda it: it.id)

    def members(self) -> list[MemberState]:
        """Members of the charter and what is known of each now."""
        return self._ask("GET", "/v1/members", list[MemberState])

    def hold(self, member: str, reason: str) -> MemberState:
        """Keep a member out of selection."""
        return self._ask("POST", f"/v1/members/{member}/hold", MemberState, body={"reason": reason})

    def let_go(self, member: str) -> MemberState:
        """Let a member be selected again."""
        return self._ask("POST", f"/v1/members/{member}/release", MemberState)

    def budgets(self, after: int = 0) -> list[BudgetRecord]:
        """The newest state of every member's grants, by the receipts that they signed."""
        return self._pages("/v1/budgets", list[BudgetRecord], after, lambda it: it.id)

    def spendings(self, after: int = 0) -> list[SpendingRecord]:
        """What each job took of each grant, by the same receipts."""
        return self._pages("/v1/budgets/jobs", list[SpendingRecord], after, lambda it: it.id)

    def receipts(self, after: int = 0) -> list[ReceiptRecord]:
        """The receipts themselves, the newest last."""
        return self._pages("/v1/budgets/history", list[ReceiptRecord], after, lambda it: it.id)

    def _pages(
        self,
        path: str,
        kind: type[list[T]],
        after: int,
        number: Callable[[T], int],
        query: Mapping[str, str | int] | None = None,
    ) -> list[T]:
        """Everything above `after`: asked for again and again, until a short answer says that this was all."""
        found: list[T] = []
        while True:
            newest = number(found[-1]) if found else after
            page = self._ask("GET", path, kind, query={"after": newest, "limit": _PAGE, **(query or {})})
            found += page
            if len(page) < _PAGE:
                return found

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
    ) -> T:
        response = self._send(method, path, body=body, query=query)
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError as error:
            raise HansaError(f"control at {self.url} answered something else: {explain(error)}") from None

    def _send(
        self, method: str, path: str, *, body: object = None, query: Mapping[str, str | int] | None = None
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body, params=query)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"control does not answer at {self.url} ({reason}); start it with: {self._start}"
            ) from None
        if response.status_code == _UNKNOWN_TOKEN:
            raise HansaError(
                f"control at {self.url} refuses this token: tokens were renewed and control not restarted, "
                "or it is another instance's"
            )
        if not response.is_success:
            sentence = f"control at {self.url}: {_reason(response)}"
            raise InputError(sentence) if response.status_code in _INPUT_WAS_WRONG else HansaError(sentence)
        return response


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {response.status_code}"
