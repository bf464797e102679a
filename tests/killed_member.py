"""A member's agent in processes of its own, each of which kills itself at some point of what it keeps of a job.

Run as a program it is a parent that has loaded all there is to load, and forks a member whenever the one before is
dead. Between them and the test go frames on standard input and output; an empty one says that the member is dead, and
is answered with how many more points the next one lives through.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from federation import make_federation

from hansa.cli.simulation import SimulatedFederation
from hansa.contract.charter import Charter
from hansa.contract.keys import SigningKey

_SIZE = struct.Struct("<I")
# Points that an answer counts for.
_ANSWER = 4


class KilledMember:
    """What the test holds: asks one member, and says when that has died.

    Parameters
    ----------
    log : the member's files
    """

    def __init__(self, federation: SimulatedFederation, name: str, log: Path) -> None:
        identity = log.with_suffix(".identity")
        federation.identities[name].save(identity)
        said = {
            "name": name,
            "log": str(log),
            "charter": federation.charter.model_dump_json(),
            "identity": str(identity),
            "sealing": federation.sealing_keys[name].private_bytes_raw().hex(),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(said)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()

    def live(self, points: int) -> None:
        """Start the next one, which dies at the last of so many points."""
        _write(self._to, str(points).encode())

    def ask(self, payload: bytes) -> bytes:
        """Its answer; empty where it died over it, without a word."""
        _write(self._to, payload)
        return _read(self._from)

    def close(self) -> None:
        """Kill whoever lives."""
        os.close(self._to)
        self._process.wait()


def _serve(said: dict[str, str], points: int) -> None:
    """The member's agent, up to its death: before a statement of SQLite's, or with an answer in its hand."""
    left = points

    def point(_: object = None) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    name, whole = said["name"], make_federation(4, mode="he")
    federation = SimulatedFederation(
        charter=Charter.model_validate_json(said["charter"]),
        hash=whole.hash,
        model=whole.model,
        records=whole.records,
        identities={name: SigningKey.load(Path(said["identity"]))},
        sealing_keys={name: X25519PrivateKey.from_private_bytes(bytes.fromhex(said["sealing"]))},
        operator=whole.operator,
    )
    agent = federation.agent(name, Path(said["log"]))
    assert agent.blind is not None
    agent.blind._held._db.set_trace_callback(point)
    while payload := _read(0):
        answer = agent.handle(payload)
        # All is on the disk and nothing has left: worth several statements.
        for _ in range(_ANSWER):
            point()
        _write(1, answer)


def _write(file: int, content: bytes) -> None:
    content = _SIZE.pack(len(content)) + content
    while content:
        content = content[os.write(file, content) :]


def _read(file: int) -> bytes:
    """A frame; empty where no more come, too."""
    head = _exactly(file, _SIZE.size)
    return _exactly(file, _SIZE.unpack(head)[0]) if head else b""


def _exactly(file: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content


def main() -> None:
    """Fork one member after the other."""
    import hansa.clients.blind  # noqa: F401

    said = json.loads(sys.argv[1])
    while points := _read(0):
        child = os.fork()
        if child == 0:
            _serve(said, int(points))
            os._exit(0)
        os.waitpid(child, 0)
        _write(1, b"")


if __name__ == "__main__":
    main()
