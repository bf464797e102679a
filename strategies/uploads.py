"""Train, its second half: send an order, add the uploads as they come, and note what else the answers say."""

from __future__ import annotations

from hansa.strategies.attempt import Attempt
from hansa.strategies.cohort_noise import UNPAID
from hansa.strategies.complaints import Complaints
from hansa.strategies.run import Run


class Uploads:
    """Answers to the orders of one run, and who complained of whom in them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._complaints = Complaints(run.charter)
        self._forks = Complaints(run.charter, "the ledger of {} forked")

    def aside(self, turn: int) -> dict[str, str]:
        """Who stays out of this attempt, with the reason: of two that go on disagreeing, one and then the other."""
        return self._complaints.aside(turn) | self._forks.aside(turn)

    def gather(self, attempt: Attempt) -> None:
        """Send the order and add each upload as it comes, until all came or the deadline passed."""
        plan = attempt.plan
        for node, answer in self._run.exchange.ask(attempt.requests, plan.deadline_s, plan.reask_s):
            attempt.receive(node, answer)
            # The next reply is made when this one is gone.
            del answer
        self.note(attempt)

    def note(self, attempt: Attempt) -> None:
        """Write down what the answers say, once nobody is waited for any more, however they came."""
        attempt.drop_request()
        roster, order = self._run.roster, attempt.order
        roster.took_part(attempt.active)
        self._run.finishes.shown(order.attempt, attempt.finished, attempt.active)
        forked = self._run.journal.receipts(order.attempt, order.digest, attempt.receipts)
        for name, sentence in forked.items():
            roster.blame(name, sentence)
        self._note_lost(attempt)
        self._hear_complaints(attempt)
        self._hear_forks(attempt)

    def _note_lost(self, attempt: Attempt) -> None:
        """Greet anew whoever did not answer; say whose budget does not pay."""
        roster = self._run.roster
        for name in attempt.lost:
            roster.forget(name)
        for name, (code, sentence) in attempt.refusals.items():
            if code == "noise-below-floor":
                roster.ask_anew(name)
            elif code in UNPAID:
                roster.not_paid(name, code, sentence)

    def _hear_complaints(self, attempt: Attempt) -> None:
        """Who complained of whose prekeys."""
        roster, journal = self._run.roster, self._run.journal
        for complainer, maker in attempt.complaints.items():
            sentence = f"{complainer} says that the prekey of {maker} is badly made"
            journal.event("bad-share", sentence, member=complainer)
            journal.event("bad-share", sentence, member=maker)
            guilty = self._complaints.hear(complainer, maker)
            if guilty == maker:
                roster.blame(maker, "more members than may collude say that its prekeys are badly made")
            elif guilty:
                roster.blame(complainer, "it calls the prekeys of more members badly made than may collude")

    def _hear_forks(self, attempt: Attempt) -> None:
        """Who saw whose ledger fork."""
        roster = self._run.roster
        for accuser, accused in attempt.forks.items():
            guilty = self._forks.hear(accuser, accused)
            if guilty == accused:
                roster.blame(accused, "more members than may collude saw that its ledger forked")
            elif guilty:
                roster.blame(accuser, "it says of more members than may collude that their ledgers forked")
