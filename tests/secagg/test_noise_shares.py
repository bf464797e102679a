"""Under distributed noise no sum is opened in which too few shares of it are: nobody gives a share for it."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from room import Room, make_parties, names

from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.secagg.active_set import least_noised, open_circles


@pytest.mark.parametrize(("members", "c", "s"), [(7, 1, 1), (7, 1, 2), (9, 2, 2), (10, 1, 4)])
def test_fewer_than_k_minus_s_and_who_colludes_open_nothing(members: int, c: int, s: int) -> None:
    parties, everybody = make_parties(members, c=c, s=s), names(members)
    needed = members - s + max(c, 1)
    # What the charter asks of an active set without noise is not enough.
    assert parties.charter.least_active < needed
    for count in range(parties.charter.least_active, members + 1):
        attempt = Room(parties, f"{members} {s}").begin()
        active = everybody[:count]
        for name in everybody:
            attempt.upload(name, {"update": np.zeros(2, np.uint32)})
        if count >= needed:
            papers = attempt.papers(active)
            assert all(attempt.give(name, active, papers) for name in active)
            continue
        for name in active:
            # It signs nothing of it and gives no share, and an honest end is still open to the attempt.
            with pytest.raises(
                RefusalError, match=f"{count} of {members} members are active, {needed} must be"
            ) as no:
                attempt.members[name].bind(active)
            assert no.value.code == "active-set-too-small"
            with pytest.raises(RefusalError) as no:
                attempt.give(name, active, {"receipts": {}, "signatures": {}})
            assert no.value.code == "active-set-too-small"
            assert attempt.members[name].state == "uploaded"
        papers = attempt.papers(everybody)
        assert all(attempt.give(name, everybody, papers) for name in everybody)


def test_the_group_with_too_few_shares_stays_closed_and_the_other_opens() -> None:
    parties, everybody = make_parties(8, audit_groups=4, s=1), names(8)
    groups = (everybody[:4], everybody[4:])
    attempt = Room(parties).begin(groups=groups)
    for name in everybody:
        attempt.upload(name, {"update": np.zeros(2, np.uint32)})
    active = everybody[:7]
    assert least_noised(4, parties.charter) == 4
    assert open_circles(attempt.order, active, parties.charter) == (groups[0],)
    papers = attempt.papers(active)
    assert all(set(attempt.give(name, active, papers)) == set(groups[0]) for name in active)
    lost = (*everybody[:3], *everybody[4:7])
    assert open_circles(attempt.order, lost, parties.charter) == ()


@pytest.mark.parametrize(("members", "c", "s"), [(2, 1, 1), (3, 1, 2), (5, 1, 3), (10, 1, 5), (7, 2, 1)])
def test_a_charter_whose_smallest_cohort_shares_no_noise_is_refused(members: int, c: int, s: int) -> None:
    with pytest.raises(ValidationError, match=r"privacy\.s"):
        make_parties(members, c=c, s=s)


def test_a_larger_smallest_cohort_allows_more_to_collude() -> None:
    document = make_parties(10, s=4).charter.model_dump()
    document["privacy"]["s"] = 6
    with pytest.raises(ValidationError, match="a cohort of 6 leaves no two members"):
        Charter.model_validate(document)
    document["protection"]["minimum_cohort"] = 8
    assert Charter.model_validate(document).privacy.s == 6


def test_groups_share_their_noise_each_for_itself() -> None:
    with pytest.raises(ValidationError, match="a cohort of 4 leaves no two members"):
        make_parties(12, audit_groups=4, s=3)
    assert make_parties(12, audit_groups=4, s=2).charter.privacy.s == 2
