"""New certificates, a new CA and new tokens for an instance's own folders."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from hansa.cli.certificates import Issued, issue_authority, issue_server
from hansa.cli.instance import Instance, MemberFolder
from hansa.contract.errors import InputError
from hansa.contract.typed import read_file, write_atomically

_TOKENS = ("read", "steer", "write", "sign")


def renew_certificate(instance: Instance, more: Sequence[str] = ()) -> datetime:
    """A new key and certificate for the server, by the CA in `ca/`, for the names of the one before and `more`.

    Returns when it runs out.

    Raises
    ------
    InputError : the CA's key is not here, or members do not trust that CA yet
    """
    authority = _authority(instance)
    if authority.certificate.strip() not in read_file(instance.server / "ca.crt"):
        raise InputError(
            f"{instance.server / 'ca.crt'}: does not hold the CA in {instance.ca}; put both into it first"
        )
    path = instance.server / "server.crt"
    before = x509.load_pem_x509_certificate(read_file(path))
    names = [*_names(before), *more]
    issued = issue_server(authority, list(dict.fromkeys(names)), datetime.now(UTC))
    # The key first: a server that starts in between says that they do not belong together, and is started again.
    write_atomically(instance.server / "server.key", issued.key, mode=0o600)
    write_atomically(path, issued.certificate)
    return x509.load_pem_x509_certificate(issued.certificate).not_valid_after_utc


def new_authority(instance: Instance) -> list[Path]:
    """A new CA beside the one that is trusted; the files that hold both now.

    The server's certificate stays the old CA's until `renew_certificate`: members elsewhere need both first.
    """
    issued = issue_authority(instance.facts.name, datetime.now(UTC))
    trusted = read_file(instance.server / "ca.crt")
    both = issued.certificate.strip() + b"\n" + trusted
    written = _spread(instance, both)
    write_atomically(instance.ca / "ca.key", issued.key, mode=0o600)
    write_atomically(instance.ca / "ca.crt", issued.certificate)
    return written


def forget_authorities(instance: Instance) -> list[Path]:
    """Trust the CA in `ca/` alone; the files that hold only that now.

    Raises
    ------
    InputError : the server's certificate is still another CA's
    """
    authority = x509.load_pem_x509_certificate(_authority(instance).certificate)
    server = x509.load_pem_x509_certificate(read_file(instance.server / "server.crt"))
    try:
        server.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise InputError(
            f"{instance.server / 'server.crt'}: was issued by another CA; renew it first: hansa provision certificate"
        ) from None
    return _spread(instance, _authority(instance).certificate)


def new_tokens(instance: Instance) -> list[Path]:
    """New tokens of control and a new SuperExec secret, in every folder that has its share of them."""
    tokens = {name: secrets.token_urlsafe(32) for name in _TOKENS}
    shares = {
        instance.control: _TOKENS,
        instance.server: ("read", "sign"),
        instance.operator: ("read", "write"),
        instance.sidecar: ("steer",),
    }
    written = []
    for folder, names in shares.items():
        path = folder / "tokens.json"
        content = json.dumps({name: tokens[name] for name in names}, indent=2).encode() + b"\n"
        write_atomically(path, content, mode=0o600)
        written.append(path)
    for path, text in (
        (instance.monitoring / "read.token", tokens["read"]),
        (instance.server / "superexec.secret", secrets.token_urlsafe(48)),
    ):
        write_atomically(path, text.encode(), mode=0o600)
        written.append(path)
    return written


def _authority(instance: Instance) -> Issued:
    """The CA whose key is here."""
    issued = Issued(read_file(instance.ca / "ca.crt"), read_file(instance.ca / "ca.key"))
    key = serialization.load_pem_private_key(issued.key, password=None)
    if key.public_key() != x509.load_pem_x509_certificate(issued.certificate).public_key():
        raise InputError(
            f"{instance.ca}: ca.key is not the key of ca.crt; make another CA: hansa provision authority"
        )
    return issued


def _names(certificate: x509.Certificate) -> list[str]:
    """Every name and address that a server's certificate holds."""
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]


def _spread(instance: Instance, certificates: bytes) -> list[Path]:
    """Write what members and the executor trust into every folder here."""
    written = [instance.server / "ca.crt"]
    for name in instance.members:
        folder = instance.member_path(name)
        written += [folder / "ca.crt", MemberFolder(folder).node_ca]
    for path in written:
        write_atomically(path, certificates)
    return written
