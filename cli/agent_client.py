"""An organisation's own way to its agent: admin.sock, on this machine, for its own user."""

from __future__ import annotations

import json
from typing import Any

from hansa.cli.instance import MemberFolder
from hansa.contract.errors import ConnectionFailed, MessageError
from hansa.contract.frames import WorkSocket

_TIMEOUT_S = 5.0


def ask_agent(member: MemberFolder) -> dict[str, Any] | None:
    """The agent's own account of itself; None where it does not run or does not answer us."""
    try:
        answer = WorkSocket(member.folder / member.config.admin_socket).ask(
            b'{"command": "status"}', _TIMEOUT_S
        )
        found: dict[str, Any] = json.loads(answer)
    except (ConnectionFailed, MessageError, OSError, ValueError):
        return None
    return {"isolated": None, **found} if found.get("ok") else None
