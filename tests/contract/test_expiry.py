"""What runs out shows 30 days ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hansa.cli.certificates import SERVER_LIFETIME, issue_authority, issue_server
from hansa.contract.errors import InputError
from hansa.contract.expiry import Expiry, certificate_expiry

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (31, None),
        (30, "charter expires on 2027-01-31, in 30 days"),
        (1, "charter expires on 2027-01-02, in 1 day"),
        (0, "charter expired on 2027-01-01"),
        (-3, "charter expired on 2026-12-29"),
    ],
)
def test_a_warning_comes_thirty_days_ahead(days: int, said: str | None) -> None:
    assert Expiry("charter", NOW + timedelta(days=days)).warning(NOW) == said


def test_a_certificate_tells_its_own_end(tmp_path: Path) -> None:
    issued = issue_server(issue_authority("test", NOW), ["localhost", "127.0.0.1"], NOW)
    path = tmp_path / "server.crt"
    path.write_bytes(issued.certificate)
    assert certificate_expiry(path).expires == NOW + SERVER_LIFETIME
    assert certificate_expiry(path).warning(NOW + SERVER_LIFETIME - timedelta(days=10)) is not None


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "server.crt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"server\.crt: not a certificate in PEM form"):
        certificate_expiry(path)
