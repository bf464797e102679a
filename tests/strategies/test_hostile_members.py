"""One member that answers in form and with ill will costs its own place, or an attempt, and never the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from masked_jobs import MaskedJob, Node, attempt_of, bad_parcels, makes

from hansa.cli.simulation import LocalOperator
from hansa.contract.errors import HansaError, InputError, MessageError
from hansa.contract.jobs import ServerRule
from hansa.contract.keys import to_text
from hansa.contract.messages import (
    PREKEYS,
    Charged,
    Head,
    HelloReply,
    HelloRequest,
    Receipt,
    RefusalReply,
    Reply,
    ReplyHeader,
    Request,
    UnmaskRequest,
    UploadReply,
    WitnessReply,
)
from hansa.contract.statements import receipt_statement
from hansa.contract.wire import Segments, describe, digest, reply_header, seal, segments_of, unpack
from hansa.strategies.complaints import Complaints
from hansa.strategies.requests import Desk

CHARGE = Charged(grant="one", purpose="train", noise_multiplier=9.5, count=1, amount=0.25)

Change = Callable[[Request, Reply, Segments], tuple[Reply, Segments]]


def rewrites(job: MaskedJob, name: str, change: Change) -> None:
    """A member changes its own replies and signs them."""

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        packed = unpack(honest(payload))
        header = reply_header(packed)
        new, segments = change(body, header.body, segments_of(packed, header.segments))
        changed = ReplyHeader(
            charter=header.charter,
            sender=name,
            request=header.request,
            body=new,
            segments=describe(segments),
        )
        return seal(changed, segments, job.simulated.identities[name])

    job.faults[name] = fault


def entry(job: MaskedJob, name: str, attempt: int = 1) -> tuple[str, str]:
    """Code and sentence of a member's part in an attempt."""
    [found] = [it for it in job.job.results[attempt - 1].participation if it.member == name]
    return found.code, found.sentence


@pytest.mark.parametrize(
    "changed",
    [{"charges": (CHARGE,)}, {"head": Head(sequence=1, hash="0" * 64)}],
)
def test_a_receipt_with_what_no_ledger_wrote_is_not_shown_to_the_others(changed: dict[str, object]) -> None:
    job = MaskedJob(4, rounds=2)
    agent = job.agents["d"]

    def fat(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        if isinstance(body, UploadReply):
            order = asked.order  # type: ignore[union-attr]
            receipt = Receipt.model_validate({**changed})
            statement = receipt_statement(order.job, order.attempt, order.digest, "d", receipt)
            signature = to_text(agent.membership.identity.sign(statement))
            body = body.model_copy(update={"receipt": receipt.model_copy(update={"signature": signature})})
        return body, segments

    rewrites(job, "d", fat)
    job.run()
    assert job.job.status == "finished"
    assert entry(job, "d")[0] == "bad-reply"
    assert all(result.active == ("a", "b", "c") for result in job.job.results)


def test_a_request_that_is_not_signed_after_the_uploads_is_a_failed_attempt() -> None:
    job = MaskedJob(4, rounds=2)
    strategy = job.strategy()
    refused: list[bytes] = []

    class Refuses(LocalOperator):
        def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
            if b'"type":"unmask"' in headers[0] and not refused:
                refused.append(headers[0])
                raise HansaError("control does not sign: the header is too large")
            return super().sign_headers(job, headers)

    strategy._desk._operator = Refuses(job.simulated.operator)
    job.run(strategy)
    assert [result.status for result in job.job.results] == ["failed", "applied", "applied", "evaluated"]
    assert "too large" in job.job.results[0].reason
    assert job.job.status == "finished"


def test_a_hello_from_another_charter_version_is_none() -> None:
    job = MaskedJob(5, rounds=1)

    def other(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        if isinstance(body, HelloReply):
            body = body.model_copy(update={"charter_version": 2})
        return body, segments

    rewrites(job, "d", other)
    job.run()
    assert all(result.cohort == ("a", "b", "c", "e") for result in job.job.results)
    assert {member for member, _ in job.events("other-charter")} == {"d"}


def test_whoever_does_not_take_a_valid_word_is_left_out_and_not_the_member_it_is_from() -> None:
    job = MaskedJob(5, rounds=3)

    def without_e(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        if isinstance(body, HelloReply | WitnessReply):
            kept = {name: it for name, it in body.accepts.items() if name != "e"}
            body = body.model_copy(update={"accepts": kept})
        return body, segments

    rewrites(job, "a", without_e)
    job.run()
    assert job.job.status == "finished"
    assert all(result.active == ("b", "c", "d", "e") for result in job.job.results)
    assert "does not take the word of e" in job.job.results[0].left_out["a"]
    assert {member for member, _ in job.events("refuses-word")} == {"a"}


def test_whoever_refuses_its_words_is_left_out_and_not_a_member_it_has_in_mind() -> None:
    """The others of two who do not fit: a refusal of what was shown is no more than not taking it."""
    job = MaskedJob(5, rounds=3)

    def refuses(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        if asked.type == "witness" and asked.shown:
            return RefusalReply(code="replayed", sentence="no"), {}
        return body, segments

    rewrites(job, "a", refuses)
    job.run()
    assert all(result.active == ("b", "c", "d", "e") for result in job.job.results)


def test_a_bad_parcel_to_one_member_does_not_keep_it_out_for_good() -> None:
    job = MaskedJob(5, rounds=10)
    makes(job, "a", bad_parcels(job, {"e"}))
    job.run()
    assert job.job.status == "finished"
    active = [set(result.active) for result in job.job.results]
    # Three complaints, and then the two in turn.
    assert all("e" not in it and "a" in it for it in active[:3])
    assert [("a" in it, "e" in it) for it in active[3:7]] == [(True, False), (False, True)] * 2
    assert all(it >= {"b", "c", "d"} for it in active)
    [sentence] = {sentence for _, sentence in job.events("bad-share")}
    assert sentence == "e says that the prekey of a is badly made"


def test_who_complains_of_more_makers_than_may_collude_is_at_fault_itself() -> None:
    complaints = Complaints(MaskedJob(5).simulated.charter)
    assert [complaints.hear("e", "a") for _ in range(4)] == [""] * 4
    assert set(complaints.aside(0)) | set(complaints.aside(1)) == {"a", "e"}
    assert complaints.hear("e", "b") == "e"
    assert Complaints(MaskedJob(5).simulated.charter).aside(0) == {}


def test_two_that_disagree_do_not_stop_a_job_that_needs_them_both() -> None:
    job = MaskedJob(3, rounds=1)
    makes(job, "a", bad_parcels(job, {"c"}))
    job.run()
    assert job.job.status == "paused"
    assert len(job.job.results) == 5


@pytest.mark.parametrize("prekeys", [np.zeros(10**6, np.uint8), np.zeros(1, np.uint32)])
def test_an_upload_with_prekeys_of_another_size_is_no_upload(prekeys: np.ndarray) -> None:
    job = MaskedJob(4, rounds=1)

    def big(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        return body, {**segments, PREKEYS: prekeys} if isinstance(body, UploadReply) else segments

    rewrites(job, "d", big)
    job.run()
    assert job.job.status == "finished"
    assert entry(job, "d")[0] == "bad-reply"
    assert all(result.active == ("a", "b", "c") for result in job.job.results)


def test_a_reply_much_larger_than_what_was_asked_for_is_not_looked_into() -> None:
    simulated = MaskedJob(4).simulated
    desk = Desk(simulated.charter, simulated.hash, LocalOperator(simulated.operator))
    request = desk.write("ab" * 16, HelloRequest(nonce="00" * 16))
    body = RefusalReply(code="bad-size", sentence="no")
    for size, fits in ((1000, True), (10**6, False)):
        segments = {"junk": np.zeros(size, np.uint8)}
        header = ReplyHeader(
            charter=simulated.hash,
            sender="a",
            request=digest(request),
            body=body,
            segments=describe(segments),
        )
        reply = seal(header, segments, simulated.identities["a"])
        assert desk.read(reply, digest(request), 10**6).header == header
        if fits:
            desk.read(reply, digest(request))
        else:
            with pytest.raises(MessageError, match="at most"):
                desk.read(reply, digest(request))


def test_no_rule_over_single_updates_is_run_where_they_are_masked() -> None:
    job = MaskedJob(4, plan={"rule": ServerRule(name="median")})
    with pytest.raises(InputError, match="median"):
        job.strategy()


def test_a_member_that_hides_in_the_unmask_exchange_of_each_attempt_stops_nothing() -> None:
    job = MaskedJob(5, rounds=3)

    def wrong(asked: Request, body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        if isinstance(asked, UnmaskRequest) and attempt_of(asked):
            return RefusalReply(code="x", sentence="y"), {}
        return body, segments

    rewrites(job, "c", wrong)
    job.run()
    assert job.job.status == "finished"
    assert all(len(result.active) == 5 for result in job.job.results)
