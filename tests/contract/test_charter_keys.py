"""A charter names keys that work: of some X25519 points everybody's secret is the same."""

from __future__ import annotations

import pytest
from federation import make_federation
from pydantic import ValidationError

from hansa.contract.charter import Charter, Protection
from hansa.contract.keys import to_text

# Points of small order on Curve25519 (RFC 7748, section 6.1; Langley's list).
SMALL = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
]


@pytest.mark.parametrize("point", SMALL)
def test_a_sealing_key_that_seals_for_everybody_is_refused(point: bytes) -> None:
    charter = make_federation(3).charter
    document = charter.model_dump(mode="json")
    document["members"][1]["sealing_key"] = to_text(point)
    with pytest.raises(ValidationError, match="anything can be sealed to"):
        Charter.model_validate(document, strict=False)


def test_a_charter_under_which_no_round_could_start_is_refused() -> None:
    with pytest.raises(ValidationError, match="no round could ever start"):
        make_federation(3, protection=Protection(mode="masked", c=2, t=3))
