"""Who answered an attempt: what a member may sign, and what must be shown before it gives a share (PROTOCOL 4.3, 4.4).

Each check either returns or raises `RefusalError`; the server uses the same ones on itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.contract.messages import Order, Receipt
from hansa.contract.statements import active_statement, receipt_statement
from hansa.secagg.parties import Parties


def check_active_set(active: Sequence[str], cohort: Sequence[str], charter: Charter, me: str) -> None:
    """An active set this member may sign: holds itself, lies in the cohort, is large enough."""
    if not set(active) <= set(cohort) or len(set(active)) != len(active):
        raise RefusalError("active-set-not-agreed", "the active set is not a part of the cohort")
    if me not in active:
        raise RefusalError(
            "not-in-active-set", "this member's upload arrived late or not at all", {"member": me}
        )
    controllers = charter.controllers(active)
    if len(controllers) < charter.least_active:
        raise RefusalError(
            "active-set-too-small",
            f"an active set of {len(controllers)} controllers is below {charter.least_active}",
            {"active": len(controllers), "minimum": charter.least_active},
        )


def check_circles(order: Order, charter: Charter, me: str) -> None:
    """The cohort has this member, and everybody once; its groups, if the charter has any, split it."""
    cohort = order.cohort
    if me not in cohort or len(set(cohort)) != len(cohort):
        raise RefusalError("unknown-member", "the cohort does not have this member, or somebody twice")
    if order.groups and charter.protection.audit_groups is None:
        raise RefusalError("cohort-too-small", "the order splits the cohort; the charter has no audit_groups")
    if sorted(name for circle in order.circles for name in circle) != sorted(cohort):
        raise RefusalError("unknown-member", "the groups are not the cohort, each member in one of them")


def check_dropped(active: Sequence[str], dropped: Sequence[str], cohort: Sequence[str]) -> None:
    """Every participant is either active or dropped: of each exactly one secret is opened."""
    both = sorted(set(active) & set(dropped))
    if both:
        raise RefusalError(
            "both-shares", f"'{both[0]}' is listed as active and as dropped", {"member": both[0]}
        )
    if sorted((*active, *dropped)) != sorted(cohort):
        raise RefusalError(
            "active-set-not-agreed", "active and dropped members together are not the cohort, each once"
        )


def check_signatures(
    active: Collection[str], order: Order, signatures: Mapping[str, str], parties: Parties
) -> None:
    """t members of the active set signed it; nobody needs to where the whole cohort is active."""
    if set(active) == set(order.cohort):
        return
    valid = len(valid_signers(active, order, signatures, parties))
    if valid < parties.threshold:
        raise RefusalError(
            "active-set-not-agreed",
            f"{valid} of its members signed the active set, {parties.threshold} are needed",
            {"signed": valid, "needed": parties.threshold},
        )


def valid_signers(
    active: Collection[str], order: Order, signatures: Mapping[str, str], parties: Parties
) -> frozenset[str]:
    """Members of the active set whose signature on it is valid."""
    statement = active_statement(order.job, order.attempt, order.digest, tuple(active))
    return frozenset(
        name
        for name, signature in signatures.items()
        if name in active and parties.signed(name, signature, statement)
    )


def check_receipts(
    active: Collection[str], order: Order, receipts: Mapping[str, Receipt], parties: Parties
) -> None:
    """Every active member signed that it uploaded for this very order."""
    for name in active:
        receipt = receipts.get(name)
        if receipt is None or not receipt_valid(name, order, receipt, parties):
            raise RefusalError(
                "active-set-not-agreed",
                f"no valid receipt shows that '{name}' uploaded in this attempt",
                {"member": name},
            )


def receipt_valid(name: str, order: Order, receipt: Receipt, parties: Parties) -> bool:
    """Whether a receipt is that member's for this order."""
    statement = receipt_statement(order.job, order.attempt, order.digest, name, receipt)
    return parties.signed(name, receipt.signature, statement)


def open_circles(order: Order, active: Collection[str], charter: Charter) -> tuple[tuple[str, ...], ...]:
    """Circles whose sum is opened: a group with fewer than `audit_groups` active ones stays closed (PROTOCOL 4.1).

    So does a circle in which too few are active for the noise that they share (`least_noised`).
    """
    least = charter.protection.audit_groups if order.groups else None
    found = []
    for circle in order.circles:
        here = [name for name in circle if name in active]
        if len(charter.controllers(here)) >= (least or 1) and len(here) >= least_noised(len(circle), charter):
            found.append(circle)
    return tuple(found)


def least_noised(summands: int, charter: Charter) -> int:
    """Fewest active of K members of one circle whose sum may be opened: K - s + max(c, 1) under `distributed` noise.

    K - s shares of the noise make up one guarantee, and whoever colludes knows its own (PROTOCOL 4.4).
    """
    s = charter.privacy.s
    if charter.privacy.noise != "distributed" or s is None:
        return 1
    return summands - s + max(charter.protection.c, 1)


def check_noised(active: Collection[str], order: Order, charter: Charter) -> None:
    """Enough members are active for the noise that they share, in one circle at least."""
    if charter.privacy.noise != "distributed" or open_circles(order, active, charter):
        return
    largest = max(order.circles, key=lambda circle: sum(name in active for name in circle))
    here, needed = sum(name in active for name in largest), least_noised(len(largest), charter)
    raise RefusalError(
        "active-set-too-small",
        f"{here} of {len(largest)} members are active, {needed} must be: "
        f"the noise of fewer is not what was charged (privacy.s = {charter.privacy.s})",
        {"active": here, "minimum": needed},
    )
