"""What needs attention: things that run out soon, two members, no protection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.cli.instance import Instance, MemberFolder
from hansa.cli.listing import shown_time
from hansa.contract.errors import HansaError
from hansa.contract.expiry import certificate_expiry, charter_expiry
from hansa.contract.shown import privacy_sentence, protection_warnings
from hansa.contract.signatures import read_charter, verify_charter

if TYPE_CHECKING:
    from hansa.server.replies import MemberState


def instance_warnings(instance: Instance, now: datetime | None = None) -> list[str]:
    """Of the consortium's side: charter, its signatures, certificates, 30 days ahead."""
    certificates = [instance.server / "server.crt", instance.server / "ca.crt"]
    return _warnings(instance.charter, instance.signatures, certificates, now)


def member_warnings(member: MemberFolder, now: datetime | None = None) -> list[str]:
    """Of one organisation's side."""
    config = member.config
    certificates = [member.folder / config.root_certificates] if config.root_certificates else []
    return _warnings(member.folder / config.charter, member.folder / config.signatures, certificates, now)


def member_privacy(member: MemberFolder) -> str:
    """What bounds what is said of this organisation's records, by its charter; empty where that cannot be read."""
    try:
        return privacy_sentence(read_charter(member.folder / member.config.charter)[0])
    except HansaError:
        return ""


def absences(members: Sequence[MemberState], version: int) -> list[str]:
    """Of members that are there and take no part, in their own words; and of those that obey another charter.

    Parameters
    ----------
    version : of the charter in force
    """
    found = [f"{it.name} {apart_sentence(it)}" for it in members if it.held is None and it.apart]
    found += [
        f"{it.name} obeys version {it.charter_version} of the charter, in force is {version}"
        for it in members
        if it.charter_version not in (None, version)
    ]
    return found


def apart_sentence(member: MemberState) -> str:
    """Why a member takes no part and since when; empty where it does."""
    if not member.apart:
        return ""
    return f"takes no part since {shown_time(member.apart_since)}: {member.apart}"


def _warnings(charter: Path, signatures: Path, certificates: list[Path], now: datetime | None) -> list[str]:
    now = now or datetime.now(UTC)
    found: list[str | None] = []
    try:
        agreed = verify_charter(charter, signatures).charter
        found += protection_warnings(agreed)
        found.append(charter_expiry(agreed).warning(now))
    except HansaError as error:
        found.append(str(error))
    for path in certificates:
        try:
            found.append(certificate_expiry(path).warning(now))
        except HansaError as error:
            found.append(str(error))
    return [it for it in found if it is not None]
