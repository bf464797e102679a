"""An organisation's own way to its agent: admin.sock, on this machine, for its own user."""

from __future__ import annotations

import json
from typing import Any

from hansa.cli.instance import Instance, MemberFolder
from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.frames import WorkSocket

_TIMEOUT_S = 5.0


def ask_agent(member: MemberFolder) -> dict[str, Any] | None:
    """The agent's own account of itself; None where it does not run or does not answer us."""
    try:
        found = command_agent(member, "status")
    except (HansaError, OSError):
        return None
    return {"isolated": None, **found}


def command_agent(member: MemberFolder, command: str, **arguments: Any) -> dict[str, Any]:
    """Have the agent do something; arguments that are None are not sent.

    Raises
    ------
    ConnectionFailed : it does not run, or this user may not speak to it
    InputError : it says why not
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    payload = json.dumps({"command": command, **given}).encode()
    try:
        answer = WorkSocket(member.folder / member.config.admin_socket).ask(payload, _TIMEOUT_S)
    except ConnectionFailed as error:
        # No socket, or one that a killed agent left.
        if not isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            raise
        raise ConnectionFailed(
            f"{member.folder}: the agent of {member.config.name} does not run; start it with: {_start_of(member)}"
        ) from None
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise ConnectionFailed(f"{member.folder}: what answers there is no agent of this version") from None
    if not found.get("ok"):
        raise InputError(f"{member.config.name}: {found.get('error', 'the agent refused without a reason')}")
    return found


def _start_of(member: MemberFolder) -> str:
    """What starts its agent and submits no job."""
    around = Instance(member.folder.parent.parent)
    everything = f", or all of its instance with: hansa up --no-job --instance {around.folder}"
    return f"hansa client start --folder {member.folder}{everything if around.exists else ''}"
