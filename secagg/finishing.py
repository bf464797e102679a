"""Proof that an attempt finished: t members say that they answered its unmasking (PROTOCOL section 7)."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.contract.errors import RefusalError
from hansa.contract.messages import Finish, Order
from hansa.contract.statements import finish_statement
from hansa.secagg.parties import Parties


def valid_finishers(
    job: str, attempt: int, order: str, signatures: Mapping[str, str], parties: Parties
) -> dict[str, str]:
    """Signatures that are valid, each of another member of the charter.

    Parameters
    ----------
    order : digest of the attempt's order
    """
    statement = finish_statement(job, attempt, order)
    return {name: it for name, it in signatures.items() if parties.signed(name, it, statement)}


def make_finish(order: Order, signatures: Mapping[str, str], parties: Parties) -> Finish | None:
    """The proof with t of the signatures that were collected; None where fewer of them are valid."""
    valid = valid_finishers(order.job, order.attempt, order.digest, signatures, parties)
    if len(valid) < parties.threshold:
        return None
    chosen = sorted(valid)[: parties.threshold]
    return Finish(
        attempt=order.attempt, order=order.digest, signatures={name: valid[name] for name in chosen}
    )


def check_finish(finish: Finish, job: str, order: str, parties: Parties) -> None:
    """A proof about this order of this job, by t members.

    Parameters
    ----------
    order : digest of the order that this member itself accepted

    Raises
    ------
    RefusalError : `replayed`
    """
    facts: dict[str, str | int] = {"attempt": finish.attempt}
    if finish.order != order:
        raise RefusalError(
            "replayed", f"a proof says that another order of attempt {finish.attempt} finished", facts
        )
    valid = len(valid_finishers(job, finish.attempt, order, finish.signatures, parties))
    if valid < parties.threshold:
        raise RefusalError(
            "replayed",
            f"{valid} members signed that attempt {finish.attempt} finished, {parties.threshold} must",
            {**facts, "signed": valid, "needed": parties.threshold},
        )
