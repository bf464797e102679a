"""Keys: Ed25519 identities and operator, X25519 sealing keys, EC node keys. Private parts are files of mode 0600."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from hansa.contract.errors import InputError
from hansa.contract.typed import read_file, write_atomically

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_RAW_PRIVATE = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())


class Signer(Protocol):
    """Whoever can sign: a key in this process, or control over HTTP."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 over `message`."""
        ...


class SigningKey:
    """An Ed25519 private key (RFC 8032)."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read what `save` wrote; refuses a file that others may read."""
        return cls(Ed25519PrivateKey.from_private_bytes(read_private(path, length=32)))

    def save(self, path: Path) -> None:
        """Write the private part, mode 0600, base64."""
        write_private(path, self._private.private_bytes(*_RAW_PRIVATE))

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 over `message`."""
        return self._private.sign(message)

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._private.public_key().public_bytes(*_RAW)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is that key's over `message`; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def generate_sealing_key(path: Path) -> bytes:
    """Write a new X25519 private key (RFC 7748) and return its public part, 32 bytes."""
    private = X25519PrivateKey.generate()
    write_private(path, private.private_bytes(*_RAW_PRIVATE))
    return private.public_key().public_bytes(*_RAW)


def can_seal(public_key: bytes) -> bool:
    """Whether an X25519 public key gives each partner another secret; a few give all the same (RFC 7748)."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return False
    return True


def generate_node_key(path: Path) -> str:
    """Write a new EC P-256 key as Flower's SuperNode reads it and return its public part in OpenSSH form.

    Flower's documents use P-384; P-256 is accepted too and much cheaper to verify at every request.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_atomically(path, pem, mode=0o600)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


def to_text(raw: bytes) -> str:
    """Base64, as keys and signatures stand in files."""
    return base64.b64encode(raw).decode()


def from_text(text: str) -> bytes:
    """The inverse of `to_text`."""
    return base64.b64decode(text, validate=True)


def write_private(path: Path, raw: bytes) -> None:
    """Write secret bytes, base64, mode 0600 from the first byte."""
    write_atomically(path, to_text(raw).encode() + b"\n", mode=0o600)


def read_private(path: Path, *, length: int) -> bytes:
    """Read what `write_private` wrote.

    Raises
    ------
    InputError : readable by others, not base64, or not `length` bytes
    """
    content = read_file(path)
    if path.stat().st_mode & 0o077 and os.name == "posix":
        raise InputError(f"{path}: a private key must be readable by its owner alone; run: chmod 600 {path}")
    try:
        raw = from_text(content.decode().strip())
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise InputError(f"{path}: not a private key of {length} bytes in base64")
    return raw
