"""Cutting the agent off the network: an empty network namespace, where the kernel allows one.

Unix sockets with a path live in the file system and go on working; nothing else does.
Must run while the process has one thread (user_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
import socket

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def enter_empty_network() -> bool:
    """Leave the host's network for one with nothing in it; returns whether the process is isolated now."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:
        return has_no_network()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        # A container without a network is isolated already; a host with nothing but a loopback is not, for
        # others listen there.
        return has_no_network() and not _anybody_listens()
    _keep_identity(user, group)
    return has_no_network()


def has_no_network() -> bool:
    """Whether no interface but a loopback exists; true in a container with `network_mode: none`."""
    return all(name == "lo" for _, name in socket.if_nameindex())


def _anybody_listens() -> bool:
    """Whether a TCP or UDP socket is bound in this network namespace."""
    lines = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/self/net/{name}") as table:
                lines += table.readlines()[1:]
        except OSError:
            continue
    return bool(lines)


def _keep_identity(user: int, group: int) -> None:
    """Map the user to itself, or files would seem to belong to nobody."""
    try:
        for path, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(line)
    except OSError:
        # The namespace is entered all the same; only the displayed owner is off.
        pass
