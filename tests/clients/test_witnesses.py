"""An older ledger, a forked one and a witness that lies: what agents notice, and what they refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from masked_side import Attempt
from noised_side import NoisedServer, on_disk

from hansa.clients.admin import Administration
from hansa.clients.grants import FreezeOrder, UnfreezeOrder
from hansa.contract.frames import Peer
from hansa.contract.keys import to_text
from hansa.contract.messages import Order, RefusalReply, UnmaskReply, Witness, WitnessRequest
from hansa.contract.statements import receipt_statement, witness_statement
from hansa.privacy.verify import verify
from hansa.secagg.member import MemberAttempt
from hansa.secagg.prekeys import Prekey

VICTIM = "d"


@pytest.fixture
def server(tmp_path: Path) -> NoisedServer:
    return NoisedServer(on_disk(tmp_path))


def refused(server: NoisedServer, attempt: Attempt, name: str) -> RefusalReply:
    body = server.send(name, attempt.request).body
    assert isinstance(body, RefusalReply), body
    return body


def command(server: NoisedServer, name: str, **asked: object) -> dict[str, object]:
    """One command of an organisation to its agent."""
    administration = Administration(server.agents[name], owner=os.getuid())
    answer = administration.answer(json.dumps(asked).encode(), Peer(pid=1, uid=os.getuid(), gid=os.getgid()))
    found: dict[str, object] = json.loads(answer)
    return found


def head(server: NoisedServer, name: str) -> int:
    budget = server.agents[name].budget
    assert budget is not None
    return budget.ledger.head.sequence


def missing(server: NoisedServer, name: str) -> str:
    witnesses = server.agents[name].witnesses
    assert witnesses is not None
    return witnesses.missing


def show(server: NoisedServer, name: str, words: Mapping[str, Witness]) -> str:
    return server.ask(name, WitnessRequest(shown=tuple(words.values()))).said


def words_on(server: NoisedServer, name: str) -> dict[str, Witness]:
    """What every other member signs on a member's present start."""
    start = server.hello(name).start
    return {it: server.words(it, {name: start})[0] for it in server.agents if it != name}


def signed_by(server: NoisedServer, witness: str, word: Witness, **fields: object) -> Witness:
    """A word that its witness changed before it signed it."""
    changed = word.model_copy(update=fields)
    statement = witness_statement(server.federation.hash, changed)
    signature = to_text(server.federation.identities[witness].sign(statement))
    return changed.model_copy(update={"signature": signature})


@pytest.mark.parametrize("files", [(), ("ledger",)], ids=["the whole folder", "the ledger alone"])
def test_a_copy_of_yesterday_is_noticed_at_the_first_exchange_and_made_whole(
    server: NoisedServer, files: tuple[str, ...]
) -> None:
    first = server.round(1)
    copy = server.copied(VICTIM)
    server.exchange(VICTIM)
    second = server.round(2, first)
    third = server.round(3, second)
    spent, newest = server.spent(VICTIM), head(server, VICTIM)
    server.restored(VICTIM, copy, *files)
    assert server.spent(VICTIM) == pytest.approx(spent / 3)
    # The ledger alone is held against the agent's own record of uploads, at once.
    assert bool(missing(server, VICTIM)) == bool(files)
    server.exchange(VICTIM)
    assert "hansa budgets recover" in missing(server, VICTIM)

    before = head(server, VICTIM)
    attempt = server.with_proofs(server.start(4), third)
    refusal = refused(server, attempt, VICTIM)
    assert refusal.code == "ledger-behind-witness"
    assert "hansa budgets recover" in refusal.sentence
    assert server.spent(VICTIM) == pytest.approx(spent / 3)
    # It knows after another start, too, whoever signs that.
    server.stop(VICTIM)
    server.start_agent(VICTIM)
    assert "hansa budgets recover" in missing(server, VICTIM)
    assert "hansa budgets recover" in str(command(server, VICTIM, command="budgets")["missing"])
    events = command(server, VICTIM, command="events")["events"]
    assert any(it["kind"] == "ledger-behind-witness" for it in events)  # type: ignore[attr-defined]

    assert not command(server, VICTIM, command="recover", reason="nobody said who")["ok"]
    answer = command(server, VICTIM, command="recover", by="officer", reason="the disk was replaced")
    assert answer["ok"], answer
    assert server.spent(VICTIM) == pytest.approx(spent)
    assert head(server, VICTIM) > newest > before
    assert missing(server, VICTIM) == ""
    assert not command(server, VICTIM, command="recover", by="officer")["ok"]
    budget = server.agents[VICTIM].budget
    assert budget is not None
    assert verify(budget.ledger.rows()).head == budget.ledger.head

    # The others take the new head, and what they say of it at the next start is no news.
    server.exchange(VICTIM)
    fifth = server.round(5)
    server.stop(VICTIM)
    server.start_agent(VICTIM)
    server.exchange(VICTIM)
    assert missing(server, VICTIM) == ""
    server.round(6, fifth)
    assert server.spent(VICTIM) == pytest.approx(spent * 5 / 3)


def test_nothing_is_charged_until_enough_others_signed_the_start(server: NoisedServer) -> None:
    server.round(1)
    server.stop(VICTIM)
    server.start_agent(VICTIM)
    words = words_on(server, VICTIM)
    del words["a"]
    assert show(server, VICTIM, words) == "witness"
    server.ask(VICTIM, WitnessRequest(prekeys=4))
    before = head(server, VICTIM)
    assert refused(server, server.start(2), VICTIM).code == "prekey-unknown"
    assert head(server, VICTIM) == before


def test_receipts_are_on_the_disk_of_everybody_who_gave_a_share(server: NoisedServer) -> None:
    server.round(1)
    for name in server.agents:
        server.stop(name)
        server.start_agent(name)
    for name in server.agents:
        for witness, word in words_on(server, name).items():
            assert word.seen is not None, witness
            assert word.seen.receipt.head is not None
            assert word.seen.receipt.head.sequence == head(server, name)


def test_one_witness_that_saw_more_than_the_others_is_enough(server: NoisedServer) -> None:
    first = server.round(1)
    copy = server.copied(VICTIM)
    server.exchange(VICTIM)
    server.round(2, first)
    spent = server.spent(VICTIM)
    # b has lost everything, c what came after the first round: only a knows.
    for name in ("b", "c"):
        server.stop(name)
        for it in (server.root / name).glob("heads*"):
            it.unlink()
        server.start_agent(name)
    server.restored(VICTIM, copy)
    words = words_on(server, VICTIM)
    assert [words[it].seen is None for it in "abc"] == [False, True, True]
    older = words["a"].seen
    assert show(server, VICTIM, {it: words[it] for it in "bc"}) == "witness"
    assert missing(server, VICTIM) == ""
    assert show(server, VICTIM, {"a": words["a"]}) == "witness"
    assert missing(server, VICTIM)
    # Another that saw less is no news, before and after the recovery.
    assert older is not None
    assert command(server, VICTIM, command="recover", by="officer")["ok"]
    assert server.spent(VICTIM) == pytest.approx(spent)
    assert show(server, VICTIM, words) == "witness"
    assert missing(server, VICTIM) == ""


def test_a_witness_that_lies_changes_nothing(server: NoisedServer) -> None:
    attempt = server.train(server.start(1))
    server.unmasked(attempt)
    words = words_on(server, VICTIM)
    honest = words["a"].seen
    assert honest is not None
    far = honest.receipt.model_copy(
        update={"head": honest.receipt.head.model_copy(update={"sequence": 900, "hash": "f" * 64})}  # type: ignore[union-attr]
    )

    def by(signer: str, member: str) -> str:
        statement = receipt_statement(honest.job, honest.attempt, honest.order, member, far)
        return to_text(server.federation.identities[signer].sign(statement))

    lies = {
        "unsigned": far.model_copy(update={"signature": ""}),
        "old signature": far,
        "its own": far.model_copy(update={"signature": by("a", VICTIM)}),
        "its own name": far.model_copy(update={"signature": by("a", "a")}),
    }
    for receipt in lies.values():
        lie = signed_by(server, "a", words["a"], seen=honest.model_copy(update={"receipt": receipt}))
        assert show(server, VICTIM, {**words, "a": lie}) == "replayed"
        assert missing(server, VICTIM) == ""
    for change in ({"job": "f" * 32}, {"attempt": 7}, {"order": "f" * 64}):
        lie = signed_by(server, "a", words["a"], seen=honest.model_copy(update=change))
        assert show(server, VICTIM, {**words, "a": lie}) == "replayed"
    # Another member's own receipt says nothing of this one.
    theirs = server.receipt_of(attempt, "b")
    assert show(server, VICTIM, {"a": signed_by(server, "a", words["a"], seen=theirs)}) == "replayed"
    assert missing(server, VICTIM) == ""
    assert show(server, VICTIM, words) == "witness"
    assert missing(server, VICTIM) == ""


def forked(server: NoisedServer, *, hidden: bool) -> Attempt:
    """The victim's agent obeys nobody: it goes on from an older copy. Returns the attempt in which it shows.

    Parameters
    ----------
    hidden : so many rows lie between that no number is shown twice
    """
    first = server.round(1)
    copy = server.copied(VICTIM)
    server.exchange(VICTIM)
    server.round(2, first)
    server.restored(VICTIM, copy)
    witnesses, budget = server.agents[VICTIM].witnesses, server.agents[VICTIM].budget
    assert witnesses is not None
    assert budget is not None
    witnesses.shown = lambda seen: None  # type: ignore[method-assign]
    budget.finish(server.jobs[0], 1)
    if hidden:
        budget.grants.freeze(FreezeOrder(grant="first", reason="a look", by="its own officer"))
        budget.grants.unfreeze(UnfreezeOrder(grant="first", by="its own officer"))
    server.exchange(VICTIM)
    return server.train(server.with_proofs(server.start(3), first))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_ledger_that_forked_gets_no_share_and_takes_part_in_nothing_more(
    server: NoisedServer, hidden: bool
) -> None:
    attempt = forked(server, hidden=hidden)
    for name in ("a", "b", "c"):
        answer = server.ask(name, attempt.unmask(attempt.order.cohort))
        assert isinstance(answer.body, RefusalReply)
        assert answer.body.code == "ledger-fork"
        assert answer.body.facts["member"] == VICTIM
        assert f"'{VICTIM}' {'went back' if hidden else 'has two hashes for row'}" in answer.body.sentence
    # For good, over restarts.
    for name in ("a", "b", "c"):
        server.stop(name)
        server.start_agent(name)
    server.exchange()
    again = server.start(4)
    before = {name: head(server, name) for name in "abc"}
    for name in ("a", "b", "c"):
        assert refused(server, again, name).code == "ledger-fork"
    assert before == {name: head(server, name) for name in "abc"}
    without = server.train(server.start(5, cohort=("a", "b", "c"), left_out={VICTIM: "its ledger forked"}))
    assert all(isinstance(it.body, UnmaskReply) for it in server.unmasked(without).values())


def test_who_told_a_start_of_less_gives_no_share_of_what_came_before_it(server: NoisedServer) -> None:
    first = server.round(1)
    copy = server.copied(VICTIM)
    server.exchange(VICTIM)
    attempt = server.train(server.with_proofs(server.start(2), first))
    # Everything of attempt 2 is lost at the victim, and the others have not seen its receipt yet.
    server.restored(VICTIM, copy)
    server.exchange(VICTIM)
    assert missing(server, VICTIM) == ""
    for name in ("a", "b", "c"):
        answer = server.ask(name, attempt.unmask(attempt.order.cohort)).body
        assert isinstance(answer, RefusalReply)
        assert answer.code == "attempt-lost"
    assert not any(prekey.id == it for _, it in server.given for prekey in attempt.prekeys.values())
    # The victim's next row has the number that the lost one had; nobody takes that for a fork.
    third = server.round(3)
    server.round(4, third)


def test_an_order_from_before_a_start_is_not_taken_by_who_signed_that_start(server: NoisedServer) -> None:
    copy = server.copied(VICTIM)
    server.exchange(VICTIM)
    attempt = server.train(server.start(1), (VICTIM,))
    # The victim loses the charge; everybody signs its new start and has not seen the order yet.
    server.restored(VICTIM, copy)
    server.exchange(VICTIM)
    assert missing(server, VICTIM) == ""
    for name in ("a", "b", "c"):
        # Asked to sign the old start once more, it takes the order as little.
        server.words(name, {VICTIM: attempt.prekeys[VICTIM].start.hex()})
        refusal = refused(server, attempt, name)
        assert refusal.code == "prekey-unknown"
        assert f"'{VICTIM}' started again" in refusal.sentence
        assert refusal.facts["member"] == VICTIM
        assert head(server, name) == attempt.receipts[VICTIM].head.sequence - 1  # type: ignore[union-attr]
    # Its ledger and what the others saw of it agree: attempts go on.
    server.exchange(VICTIM)
    server.round(3, server.round(2))


def test_a_start_signed_while_an_attempt_is_accepted_counts_as_signed_after_it(server: NoisedServer) -> None:
    attempt = server.train(server.start(1), (VICTIM,))
    ring = server.agents["a"].ring
    assert ring is not None
    accept = ring.accept

    def slow(order: Order, prekeys: Sequence[Prekey]) -> MemberAttempt:
        accepted = accept(order, prekeys)
        ring.sign_starts({VICTIM: "0" * 32})
        return accepted

    ring.accept = slow  # type: ignore[method-assign]
    server.train(attempt, ("a", "b", "c"))
    said = {name: answer.said for name, answer in server.unmasked(attempt).items()}
    assert said == {"a": "attempt-lost", "b": "unmask", "c": "unmask", VICTIM: "unmask"}


def test_receipts_of_members_that_are_not_active_are_not_believed(server: NoisedServer) -> None:
    first = server.round(1)
    attempt = server.train(server.with_proofs(server.start(2), first), ("a", "b", "c"))
    forged = attempt.receipts["a"].model_copy(update={"signature": ""})
    assert forged.head is not None
    forged = forged.model_copy(update={"head": forged.head.model_copy(update={"hash": "f" * 64})})
    active = ("a", "b", "c")
    body = attempt.unmask(active, server.agreed(attempt, active))
    body = body.model_copy(update={"receipts": {**body.receipts, VICTIM: forged, "zz": forged}})
    assert server.ask("a", body).said == "unmask"
    seen = words_on(server, VICTIM)["a"].seen
    assert seen is not None
    assert seen.receipt.head is not None
    assert seen.receipt.head.hash != "f" * 64
