"""Who signed what, and what a member will not go back to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w
from federation import make_federation
from hypothesis import given
from hypothesis import strategies as st

from hansa.contract.charter import Charter
from hansa.contract.errors import CharterError
from hansa.contract.keys import SigningKey
from hansa.contract.signatures import (
    CharterSuperseded,
    check_pin,
    pin,
    read_charter,
    read_pin,
    read_signatures,
    sign_charter,
    verify_charter,
    write_signatures,
)


class Consortium:
    """Three members that sign charters in a folder."""

    def __init__(self, folder: Path) -> None:
        made = make_federation(3)
        self.charter, self.keys = made.charter, made.identities
        self.path, self.signatures = folder / "charter.toml", folder / "charter.signatures.json"
        self.write(self.charter)

    def write(self, charter: Charter) -> None:
        self.path.write_text(tomli_w.dumps(charter.model_dump(mode="python", exclude_none=True)))

    def sign(self, *names: str) -> None:
        for name in names or self.keys:
            sign_charter(self.path, self.signatures, name, self.keys[name])

    def next_version(self, **changes: object) -> None:
        charter, digest = read_charter(self.path)
        document = {**charter.model_dump(), "version": charter.version + 1, "previous": digest, **changes}
        self.write(Charter.model_validate(document))
        self.sign()


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


def test_a_charter_signed_by_all_is_verified(consortium: Consortium) -> None:
    consortium.sign()
    verified = verify_charter(consortium.path, consortium.signatures)
    assert verified.charter == consortium.charter
    assert set(verified.signatures) == {"a", "b", "c"}


def test_a_missing_signature_is_named(consortium: Consortium) -> None:
    consortium.sign("a")
    with pytest.raises(CharterError, match=r"signature of member 'b' is missing, and 1 more; .*--name b"):
        verify_charter(consortium.path, consortium.signatures)


def test_no_signatures_at_all_says_what_to_do(consortium: Consortium) -> None:
    with pytest.raises(CharterError, match=r"no such file; each member signs with: hansa charter sign"):
        verify_charter(consortium.path, consortium.signatures)


def test_a_changed_value_says_whose_signature_fails_and_how_many_more(consortium: Consortium) -> None:
    consortium.sign()
    consortium.path.write_text(
        consortium.path.read_text().replace('approval = "automatic"', 'approval = "manual"')
    )
    with pytest.raises(CharterError, match=r"signature of member 'a' does not fit this charter, nor 2 more"):
        verify_charter(consortium.path, consortium.signatures)


@given(position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_changed_byte_of_a_charter_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    consortium = _signed_once(tmp_path_factory)
    content = consortium.path.read_bytes()
    position %= len(content)
    changed = content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]
    path = consortium.path.with_name("changed.toml")
    path.write_bytes(changed)
    with pytest.raises(CharterError, match=r"signature of member '\w+' does not fit"):
        verify_charter(path, consortium.signatures)


def test_a_forged_signature_is_named(consortium: Consortium) -> None:
    consortium.sign()
    signed = read_signatures(consortium.signatures)
    forged = {**signed.signatures, "b": signed.signatures["a"]}
    write_signatures(consortium.signatures, signed.model_copy(update={"signatures": forged}))
    with pytest.raises(CharterError, match=r"signature of member 'b' does not fit this charter:"):
        verify_charter(consortium.path, consortium.signatures)


@pytest.mark.parametrize("text", ["not base64!", "", "AAAA"])
def test_a_malformed_signature_is_an_error_and_no_crash(consortium: Consortium, text: str) -> None:
    consortium.sign()
    document = json.loads(consortium.signatures.read_text())
    document["signatures"]["c"] = text
    consortium.signatures.write_text(json.dumps(document))
    with pytest.raises(CharterError, match="signature of member 'c' does not fit"):
        verify_charter(consortium.path, consortium.signatures)


def test_only_a_member_signs_and_only_with_its_own_key(consortium: Consortium) -> None:
    with pytest.raises(CharterError, match="'z' is not a member; the members are a, b, c"):
        sign_charter(consortium.path, consortium.signatures, "z", SigningKey.generate())
    with pytest.raises(CharterError, match="not the identity_key of member 'a'"):
        sign_charter(consortium.path, consortium.signatures, "a", consortium.keys["b"])
    assert not consortium.signatures.exists()


def test_signing_another_text_drops_signatures_that_cannot_fit(consortium: Consortium) -> None:
    consortium.sign()
    consortium.write(consortium.charter.model_copy(update={"approval": "manual"}))
    consortium.sign("b")
    assert set(read_signatures(consortium.signatures).signatures) == {"b"}


def test_an_older_version_is_refused_for_ever(consortium: Consortium, tmp_path: Path) -> None:
    folder = tmp_path / "member"
    folder.mkdir()
    consortium.sign()
    first = verify_charter(consortium.path, consortium.signatures)
    pin(folder, first)
    consortium.next_version()
    second = verify_charter(consortium.path, consortium.signatures)
    pin(folder, second)
    with pytest.raises(CharterSuperseded, match="version 1 was superseded: version 2 is pinned"):
        check_pin(folder, first)
    kept = read_pin(folder)
    assert kept is not None
    assert (kept.version, kept.hash, kept.superseded) == (2, second.hash, (first.hash,))
    assert (folder / "pin.json").stat().st_mode & 0o777 == 0o600


def test_a_version_that_skips_the_pinned_one_is_refused(consortium: Consortium, tmp_path: Path) -> None:
    folder = tmp_path / "member"
    folder.mkdir()
    consortium.sign()
    pin(folder, verify_charter(consortium.path, consortium.signatures))
    consortium.next_version()
    consortium.next_version()
    with pytest.raises(CharterError, match="expected version 2 with previous"):
        pin(folder, verify_charter(consortium.path, consortium.signatures))


def test_a_new_version_names_the_hash_of_the_one_before(consortium: Consortium, tmp_path: Path) -> None:
    folder = tmp_path / "member"
    folder.mkdir()
    consortium.sign()
    pin(folder, verify_charter(consortium.path, consortium.signatures))
    consortium.next_version(previous="0" * 64)
    with pytest.raises(CharterError, match="does not follow the pinned version 1"):
        pin(folder, verify_charter(consortium.path, consortium.signatures))


def test_another_text_of_the_pinned_version_is_refused(consortium: Consortium, tmp_path: Path) -> None:
    folder = tmp_path / "member"
    folder.mkdir()
    consortium.sign()
    pin(folder, verify_charter(consortium.path, consortium.signatures))
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=900)
    consortium.write(consortium.charter.model_copy(update={"expires": later}))
    consortium.sign()
    with pytest.raises(CharterError, match="is not the text pinned"):
        pin(folder, verify_charter(consortium.path, consortium.signatures))


_kept: list[Consortium] = []


def _signed_once(factory: pytest.TempPathFactory) -> Consortium:
    if not _kept:
        _kept.append(Consortium(factory.mktemp("signed")))
        _kept[0].sign()
    return _kept[0]
