"""The end of a job: the members are told, keep the final model, and the job is finished."""

from __future__ import annotations

from hansa.contract.errors import MessageError
from hansa.contract.messages import CloseReply, CloseRequest, RefusalReply
from hansa.contract.wire import digest
from hansa.strategies.blind_state import BlindState
from hansa.strategies.contract_check import released
from hansa.strategies.exchange import ExchangeError
from hansa.strategies.requests import NO_SEGMENTS
from hansa.strategies.run import Run
from hansa.strategies.states import State


def close_job(run: Run, state: State) -> None:
    """Tell the members, who keep the final model, and write that the job is finished."""
    plan = run.plan
    # A run that only has this left to do knows nobody yet.
    run.refresh(state, prekeys=False)
    close, segments = CloseRequest(job=plan.job, rounds=state.round), NO_SEGMENTS
    if isinstance(state, BlindState):
        close = close.model_copy(update={"state": state.tag})
    else:
        segments = released(state, run.charter)
    request = run.desk.write(plan.job, close, segments)
    nodes, asked = dict.fromkeys(run.roster.addresses.values(), request), digest(request)
    kept = sum(
        _keeps(run, answer, asked)
        for _, answer in run.exchange.ask(nodes, min(plan.deadline_s, 20.0), plan.reask_s)
    )
    run.journal.event("closed", f"{kept} of {len(nodes)} members keep the final model")
    # Last of all: a run that dies before this line is followed by one that closes again.
    run.journal.set_status("finished")


def _keeps(run: Run, answer: bytes | ExchangeError, asked: str) -> bool:
    """Whether a member took the end of the job; why it refused is an event."""
    if isinstance(answer, ExchangeError):
        return False
    try:
        header = run.desk.read(answer, asked).header
    except MessageError as error:
        run.journal.event("bad-reply", str(error))
        return False
    if isinstance(header.body, RefusalReply):
        run.journal.event(header.body.code, header.body.sentence, member=header.sender)
    return isinstance(header.body, CloseReply)
