"""New certificates, a new CA and new tokens for an instance's own folders."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hansa.cli.certificates import Issued, check_name, issue_authority, issue_server, read_certificates
from hansa.cli.instance import Instance, MemberFolder
from hansa.contract.errors import InputError
from hansa.contract.folders import clear_leftovers
from hansa.contract.typed import read_file, write_atomically

_TOKENS = ("read", "steer", "write", "sign")


def renew_certificate(instance: Instance, more: Sequence[str] = ()) -> datetime:
    """A new key and certificate for the server, by the CA in `ca/`, for the names of the one before and `more`.

    Returns when it runs out.

    Raises
    ------
    InputError : the CA's key is not here, or members do not trust that CA yet
    """
    for name in more:
        check_name(name)
    authority = _authority(instance)
    if _certificate(authority) not in read_certificates(instance.server / "ca.crt"):
        raise InputError(
            f"{instance.server / 'ca.crt'}: does not hold the CA in {instance.ca}; put both into it first"
        )
    path, key = instance.server / "server.crt", instance.server / "server.key"
    names = list(dict.fromkeys([*_names(path), *more]))
    if not names:
        raise InputError(f"{path}: holds no name; say by which the server is called: --name NAME")
    issued = issue_server(authority, names, datetime.now(UTC))
    clear_leftovers(key)
    # The key first: a server that starts in between says that they do not belong together, and is started again.
    write_atomically(key, issued.key, mode=0o600)
    write_atomically(path, issued.certificate)
    return _certificate(issued).not_valid_after_utc


def new_authority(instance: Instance) -> list[Path]:
    """A new CA beside the one that is trusted; the files that hold both now.

    The server's certificate stays the old CA's until `renew_certificate`: members elsewhere need both first.

    Raises
    ------
    InputError : what is trusted so far cannot be read
    """
    # Certificates and nothing else: what stands between them in the file is not handed to members.
    trusted = read_certificates(instance.server / "ca.crt")
    issued = issue_authority(instance.facts.name, datetime.now(UTC))
    both = issued.certificate + b"".join(it.public_bytes(serialization.Encoding.PEM) for it in trusted)
    written = _spread(instance, both)
    clear_leftovers(instance.ca / "ca.key")
    write_atomically(instance.ca / "ca.key", issued.key, mode=0o600)
    write_atomically(instance.ca / "ca.crt", issued.certificate)
    return written


def forget_authorities(instance: Instance) -> list[Path]:
    """Trust the CA in `ca/` alone; the files that hold only that now.

    Raises
    ------
    InputError : the server's certificate is still another CA's
    """
    authority = _authority(instance)
    path = instance.server / "server.crt"
    try:
        read_certificates(path)[0].verify_directly_issued_by(_certificate(authority))
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(
            f"{path}: was issued by another CA; renew it first: hansa provision certificate"
        ) from None
    return _spread(instance, authority.certificate)


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
        clear_leftovers(path)
        write_atomically(path, content, mode=0o600)
        written.append(path)
    for path, text in (
        (instance.monitoring / "read.token", tokens["read"]),
        (instance.server / "superexec.secret", secrets.token_urlsafe(48)),
    ):
        clear_leftovers(path)
        write_atomically(path, text.encode(), mode=0o600)
        written.append(path)
    return written


def _authority(instance: Instance) -> Issued:
    """The CA whose key is here."""
    another = "make another CA: hansa provision authority"
    certificate, issued = instance.ca / "ca.crt", read_file(instance.ca / "ca.key")
    held = read_certificates(certificate)[0]
    try:
        key = serialization.load_pem_private_key(issued, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(
            f"{instance.ca / 'ca.key'}: not a private key in PEM form without a passphrase; {another}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != held.public_key():
        raise InputError(f"{instance.ca}: ca.key is not the elliptic-curve key of ca.crt; {another}")
    return Issued(held.public_bytes(serialization.Encoding.PEM), issued)


def _certificate(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


def _names(path: Path) -> list[str]:
    """Every name and address that a server's certificate holds."""
    try:
        extensions = read_certificates(path)[0].extensions
        held = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError:
        raise InputError(f"{path}: its names cannot be read") from None
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
