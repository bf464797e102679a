"""Unmask: the members agree on who answered, and open what masks the sum (PROTOCOL 4.3, 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hansa.contract.errors import ConnectionFailed, HansaError, MessageError
from hansa.contract.keys import from_text
from hansa.contract.messages import AgreeReply, AgreeRequest, RefusalReply, Reply, UnmaskReply, UnmaskRequest
from hansa.contract.typed import clipped
from hansa.contract.wire import digest
from hansa.secagg.active_set import valid_signers
from hansa.secagg.finishing import valid_finishers
from hansa.secagg.server import BadShare, Unmasking
from hansa.strategies.attempt import Attempt
from hansa.strategies.exchange import ExchangeError
from hansa.strategies.run import Run
from hansa.strategies.start_exchange import RESTARTED


@dataclass(frozen=True)
class UnmaskPhase:
    """The two exchanges after the uploads; each says in one sentence why an attempt cannot go on."""

    run: Run

    def unmask(self, attempt: Attempt) -> None:
        """Have the members agree on who answered where somebody did not; then have them open the masks.

        When every upload arrived nothing needs to be agreed on (PROTOCOL 4.3). In mode `clear` there
        is no mask to take off. An attempt that gets no further says so in `attempt.shortfall()`.
        """
        signatures: dict[str, str] = {}
        if attempt.dropped and not attempt.shortfall():
            signatures = self.agree(attempt)
        if attempt.prekeys and not attempt.shortfall():
            self.take_off(attempt, signatures)
        elif self.run.finishes.needed and not attempt.shortfall():
            self.finish(attempt, signatures)

    def agree(self, attempt: Attempt) -> dict[str, str]:
        """Signatures of active members on the active set, t of them; sets `attempt.failure` where fewer come."""
        order, active, needed = attempt.order, attempt.active, self.run.charter.threshold
        request = AgreeRequest(job=order.job, attempt=order.attempt, active=active)
        signatures: dict[str, str] = {}
        for name, body in self._answers(attempt, request, lambda: len(signatures) >= needed):
            if isinstance(body, AgreeReply):
                offered = {name: body.signature}
                if valid_signers(active, order, offered, self.run.desk.parties):
                    signatures[name] = body.signature
                else:
                    self.run.journal.event(
                        "bad-reply", "the signature on who answered is not valid", member=name
                    )
        sentence = (
            f"attempt {order.attempt}: {len(signatures)} of {len(active)} active members signed who answered"
        )
        if attempt.failure:
            return signatures
        self.run.journal.event("agreed", sentence)
        if len(signatures) < needed:
            attempt.failure = f"{sentence}, the charter needs {needed}"
        return signatures

    def take_off(self, attempt: Attempt, signatures: dict[str, str]) -> None:
        """Collect shares until t members gave theirs and take the masks off.

        Sets `attempt.failure` where they did not, or where a secret is not the one that was promised.
        """
        order, active, needed = attempt.order, attempt.active, self.run.charter.threshold
        unmasking = Unmasking(self.run.desk.parties, order, attempt.prekeys, active)
        request = UnmaskRequest(
            job=order.job,
            attempt=order.attempt,
            active=active,
            dropped=attempt.dropped,
            receipts=attempt.receipts,
            signatures=signatures,
        )
        signed: dict[str, str] = {}

        def enough() -> bool:
            return unmasking.missing == 0 and self._signed_enough(signed)

        for name, body in self._answers(attempt, request, enough):
            if isinstance(body, UnmaskReply):
                self._take_finished(attempt, name, body, signed)
                try:
                    unmasking.receive(name, _openings(name, body))
                except BadShare as bad:
                    self.run.journal.event("bad-share", str(bad), member=bad.member)
        if attempt.failure:
            return
        self._prove(attempt, signed)
        if unmasking.missing:
            given = needed - unmasking.missing
            attempt.failure = (
                f"attempt {order.attempt}: {given} of {len(active)} active members gave their shares, "
                f"the charter needs {needed}"
            )
            return
        try:
            unmasking.unmask(attempt.summation)
        except BadShare as bad:
            self.run.journal.event("bad-share", str(bad), member=bad.member)
            self.run.roster.blame(bad.member, str(bad))
            attempt.failure = f"attempt {order.attempt}: {bad}"
            return
        except ValueError as error:
            attempt.failure = f"attempt {order.attempt}: masks do not come off the encrypted sum: {error}"
            return
        for circle in set(order.circles) - set(attempt.open_circles):
            sentence = f"attempt {order.attempt}: too few of {', '.join(circle)} answered to open their sum"
            self.run.journal.event("group-closed", sentence)

    def finish(self, attempt: Attempt, signatures: dict[str, str]) -> None:
        """Where nothing is masked, have t members say that the attempt finished; without that it only counts as failed.

        Members charge what they release, and admit few attempts that nobody saw finish.
        """
        order, signed = attempt.order, dict[str, str]()
        request = UnmaskRequest(
            job=order.job,
            attempt=order.attempt,
            active=attempt.active,
            dropped=attempt.dropped,
            receipts=attempt.receipts,
            signatures=signatures,
        )
        for name, body in self._answers(attempt, request, lambda: self._signed_enough(signed)):
            if isinstance(body, UnmaskReply):
                self._take_finished(attempt, name, body, signed)
        if not attempt.failure:
            self._prove(attempt, signed)

    def _signed_enough(self, signed: dict[str, str]) -> bool:
        return not self.run.finishes.needed or len(signed) >= self.run.charter.threshold

    def _take_finished(self, attempt: Attempt, name: str, body: UnmaskReply, signed: dict[str, str]) -> None:
        """Note a member's word that the attempt finished; one that is not valid is worth an event and nothing else."""
        if not self.run.finishes.needed:
            return
        order, said = attempt.order, {name: body.finished}
        if valid_finishers(order.job, order.attempt, order.digest, said, self.run.desk.parties):
            signed[name] = body.finished
        else:
            self.run.journal.event("bad-reply", "did not sign that it answered the unmasking", member=name)

    def _prove(self, attempt: Attempt, signed: dict[str, str]) -> None:
        if self.run.finishes.needed and not self.run.finishes.add(attempt.order, signed):
            self.run.journal.event(
                "not-proved",
                f"attempt {attempt.order.attempt}: {len(signed)} members signed that it finished, "
                f"{self.run.charter.threshold} must; the others count it as unfinished",
            )

    def _answers(
        self, attempt: Attempt, request: AgreeRequest | UnmaskRequest, enough: Callable[[], bool]
    ) -> Iterator[tuple[str, Reply]]:
        """Ask the active members until enough answered; what is no answer is noted. Who is silent is greeted again."""
        try:
            payload = self.run.desk.write(attempt.order.job, request)
        except ConnectionFailed:
            # Nobody signs anything for now: the next run goes on.
            raise
        except HansaError as error:
            attempt.failure = clipped(f"attempt {attempt.order.attempt}: {error}")
            return
        members = {attempt.addresses[name]: name for name in attempt.active}
        silent, plan = set(attempt.active), attempt.plan
        digested = digest(payload)
        asked = dict.fromkeys(members, payload)
        for node, answer in self.run.exchange.ask(asked, plan.deadline_s, plan.reask_s, enough):
            name = members[node]
            silent.discard(name)
            try:
                body = self._read(name, answer, digested)
            except ExchangeError:
                self.run.roster.forget(name)
                continue
            except MessageError as error:
                self.run.journal.event("bad-reply", str(error), member=name)
                continue
            if isinstance(body, RefusalReply):
                self.run.journal.event(body.code, body.sentence, member=name)
                if body.code in RESTARTED:
                    self.run.roster.forget(name)
            yield name, body
        if not enough():
            for name in silent:
                self.run.roster.forget(name)

    def _read(self, name: str, answer: bytes | ExchangeError, asked: str) -> Reply:
        if isinstance(answer, ExchangeError):
            raise answer
        header = self.run.desk.read(answer, asked).header
        if header.sender != name:
            raise MessageError(f"{name}'s node answers in the name of {header.sender}")
        return header.body


def _openings(giver: str, body: UnmaskReply) -> dict[str, bytes]:
    try:
        return {name: from_text(share) for name, share in body.shares.items()}
    except ValueError:
        raise BadShare(giver, f"'{giver}' gave a share that is not base64") from None
