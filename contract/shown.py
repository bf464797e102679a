"""What a charter's protection means, in one sentence for people: the same words in logs, status and at a start."""

from __future__ import annotations

from hansa.contract.charter import Charter


def protection_sentence(charter: Charter) -> str:
    """What the server can read of the members' updates."""
    protection = charter.protection
    if protection.mode == "clear":
        return "mode clear: the server reads every member's update; for debugging only"
    sees = f"sees the sum of at least {charter.least_active} members' updates and nothing smaller"
    if protection.audit_groups is not None:
        sees = f"sees sums of groups of at least {protection.audit_groups} members and nothing smaller"
    if protection.mode == "he":
        holds = "mode he: the server sees no update, no sum and no model; the model is held by the members"
        colluding = f"{protection.c} of them" if protection.c > 1 else "one of them"
        shared = f"; with {colluding} on its side it sees the sum of the others" if protection.c else ""
        return f"{holds}{shared}"
    colludes = f", also with {protection.c} of them on its side" if protection.c else ""
    return f"mode {protection.mode}: the server {sees}{colludes}"


def privacy_sentence(charter: Charter) -> str:
    """What bounds what a model or a figure says of one record."""
    privacy = charter.privacy
    if privacy.noise == "none":
        return "no noise: nothing bounds what the model and its figures say of a single record"
    unit = charter.task.features.entity
    whose = f"every '{unit}' of an organisation" if unit is not None else "every record of an organisation"
    if privacy.noise == "local":
        holds = "each organisation adds all of its noise, so its guarantee holds against everybody on its own"
    else:
        holds = f"the organisations share the noise; it holds while at most {privacy.s} collude or drop out together"
    return f"noise {privacy.noise}: differential privacy for {whose}, paid from its own ledger; {holds}"


def protection_warnings(charter: Charter) -> list[str]:
    """What a person must know before taking part (PROTOCOL section 5)."""
    found = []
    if len(charter.members) == 2:
        found.append(
            "two members: each can subtract its own update from the sum, so nothing is hidden from the other"
        )
    if charter.protection.mode == "clear":
        found.append(protection_sentence(charter))
    if charter.privacy.noise == "none":
        found.append(privacy_sentence(charter))
    return found
