"""Members of one controller are one party: no controller may be larger than what the threshold bears."""

from __future__ import annotations

import pytest
from federation import make_federation, names
from pydantic import ValidationError

from hansa.contract.charter import Mode, Protection


@pytest.mark.parametrize("mode", ["masked", "he"])
@pytest.mark.parametrize(("c", "controllers"), [(0, "xxcdef"), (1, "xxcdef"), (2, "axxxef")])
def test_a_controller_of_more_members_than_may_collude_is_refused(
    mode: Mode, c: int, controllers: str
) -> None:
    with pytest.raises(ValidationError, match=r"controller 'x' has [23] members") as refused:
        make_federation(6, controllers=list(controllers), protection=Protection(mode=mode, c=c))
    own = [name for name, controller in zip(names(6), controllers, strict=True) if controller == "x"]
    assert f"({', '.join(own)})" in str(refused.value)
    assert f"set protection.c = {len(own)}" in str(refused.value)


@pytest.mark.parametrize("mode", ["masked", "he"])
def test_one_of_as_many_members_as_may_collude_is_not(mode: Mode) -> None:
    made = make_federation(7, controllers=list("xxyyefg"), protection=Protection(mode=mode, c=2)).charter
    assert made.threshold == 5
    for c in (0, 1):
        make_federation(6, protection=Protection(mode=mode, c=c))
    make_federation(2, mode=mode)


def test_in_mode_clear_nothing_is_hidden_from_anybody() -> None:
    make_federation(5, controllers=list("xxyzw"), protection=Protection(mode="clear", t=4))
