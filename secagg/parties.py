"""Who takes part: a charter's members as secure aggregation sees them, by index."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.contract.charter import Charter
from hansa.contract.keys import from_text, verify


@dataclass(frozen=True)
class Parties:
    """The members of one charter in its order; a member's share lies at x = index + 1.

    Parameters
    ----------
    charter_hash : 32 bytes
    identity_keys, sealing_keys : Ed25519 and X25519 public keys, 32 bytes each
    """

    charter: Charter
    charter_hash: bytes
    names: tuple[str, ...]
    identity_keys: tuple[bytes, ...]
    sealing_keys: tuple[bytes, ...]

    @classmethod
    def of(cls, charter: Charter, charter_hash: str) -> Parties:
        """The parties of a charter whose hash (hex) is known."""
        return cls(
            charter=charter,
            charter_hash=bytes.fromhex(charter_hash),
            names=tuple(member.name for member in charter.members),
            identity_keys=tuple(from_text(member.identity_key) for member in charter.members),
            sealing_keys=tuple(from_text(member.sealing_key) for member in charter.members),
        )

    def index(self, name: str) -> int:
        """Position of a member; raises `ValueError` for a stranger."""
        return self.names.index(name)

    @property
    def threshold(self) -> int:
        """t: so many shares open a secret."""
        return self.charter.threshold

    def signed(self, name: str, signature: str, statement: bytes) -> bool:
        """Whether a member signed a statement; False for a stranger and for anything malformed."""
        if name not in self.names:
            return False
        try:
            raw = from_text(signature)
        except ValueError:
            return False
        return verify(self.identity_keys[self.index(name)], raw, statement)
