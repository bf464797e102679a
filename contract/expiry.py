"""What runs out, and when: the charter and the X.509 certificates. `status` says so 30 days ahead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.typed import read_file

AHEAD = timedelta(days=30)


@dataclass(frozen=True)
class Expiry:
    """One thing that runs out; `what` is how a person calls it."""

    what: str
    expires: datetime

    def warning(self, now: datetime, ahead: timedelta = AHEAD) -> str | None:
        """A sentence once it has expired or will within `ahead`, else None."""
        left = self.expires - now
        if left <= timedelta(0):
            return f"{self.what} expired on {self.expires:%Y-%m-%d}"
        if left <= ahead:
            days = left.days
            return f"{self.what} expires on {self.expires:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}"
        return None


def charter_expiry(charter: Charter) -> Expiry:
    """When the agreement, and with it every key it names, runs out."""
    return Expiry(f"charter '{charter.name}' version {charter.version}", charter.expires.astimezone(UTC))


def certificate_expiry(path: Path) -> Expiry:
    """When a PEM certificate runs out.

    Raises
    ------
    InputError : the file is missing or holds no certificate
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_file(path))
    except ValueError:
        raise InputError(f"{path}: not a certificate in PEM form") from None
    return Expiry(f"certificate {path.name}", certificate.not_valid_after_utc)
