"""One person's reach, noise over records, and jobs of moments: the audit against mechanisms broken in more ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from broken_mechanisms import BROKEN
from slow import cases
from test_auditing import FEW_DRAWS, LABELS, SETTINGS, TWO, claim_of, subject

from hansa.clients import audit_moves as moves
from hansa.clients.audit_moments import audit_moments
from hansa.clients.audit_moves import Moves, audit_moves
from hansa.clients.audit_noise import NoiseAudit, audit_noise
from hansa.clients.audit_own import audit_own_model
from hansa.clients.auditing import Claim, Subject
from hansa.contract.charter import ModelChoice, PrivacyPlan, Training
from hansa.contract.features import CategoricalColumn, FeatureContract, NumericColumn

MANY_ROWS = subject(training=Training(max_entities=10_000, max_records=10))


def small() -> Subject:
    """A member beside others that are nine times as large, so that its sum has a weight of a third."""
    who = subject()
    others = [it.model_copy(update={"records": 9 * it.records}) for it in who.charter.members[1:]]
    charter = who.charter.model_copy(update={"members": (who.charter.members[0], *others)})
    return replace(who, charter=charter)


ALL_SETTINGS = {
    **SETTINGS,
    "people of many rows": (MANY_ROWS, 2.0, 20, 1),
    "a small member": (small(), 2.0, 60, 1),
}


def setting(name: str) -> tuple[Subject, Claim]:
    who, epsilon, rounds, steps = ALL_SETTINGS[name]
    return who, claim_of(who, epsilon, rounds, steps)


def findings(looks: Iterable[Moves | NoiseAudit]) -> dict[str, list[str]]:
    """What was found without canaries, by segment."""
    found: dict[str, list[str]] = {}
    for it in looks:
        found.setdefault(it.segment, []).extend(it.findings)
    return found


def one_person(who: Subject, claim: Claim) -> list[Moves]:
    return audit_moves(who, claim, seed=3)


def the_noise(who: Subject, claim: Claim) -> list[NoiseAudit]:
    """Fewer draws than by default: what is found in them is found in more."""
    return audit_noise(who, claim, draws=FEW_DRAWS)


ONE, HOME, BATCHES, MANY = "one sum a round", "steps at home", "batches", "people of many rows"
SMALL = "a small member"
EVERY = {"update", "evaluation", "statistics"}
# Breakage, setting and the segments where one person's reach shows it.
BY_MOVES = [
    *[("clip not applied", it, {"update"}) for it in (ONE, HOME, BATCHES)],
    *[("twice the clip", it, {"update"}) for it in (ONE, HOME, BATCHES)],
    *[("intercept not clipped", it, {"update"}) for it in (ONE, HOME, BATCHES, MANY)],
    ("clip of each coordinate", ONE, {"update"}),
    ("clip by row", MANY, {"update", "statistics"}),
    ("rows count whole", MANY, {"evaluation"}),
    ("clips of sums twice as long", ONE, {"statistics"}),
    *[
        (broken, BATCHES, {"update"})
        for broken in (
            "everybody in every batch",
            "batches twice as large",
            "one sample for all steps",
            "batches in turn",
            "batches of one size",
        )
    ],
    *[
        (broken, it, EVERY)
        for it in (ONE, HOME)
        for broken in ("noise of a 32-bit seed", "noise of a key cut short", "noise by attempt")
    ],
    *[
        (broken, ONE, EVERY)
        for broken in (
            "noise where something stands",
            "noise scaled by the records",
            "noise of the round before",
        )
    ],
    *[("no noise at the first step", it, {"update"}) for it in (HOME, BATCHES)],
    *[("held-out people train", it, {"evaluation"}) for it in (ONE, HOME, BATCHES)],
    *[("check sums everybody", it, {"evaluation"}) for it in (ONE, HOME)],
    *[("figures over training records", it, {"evaluation"}) for it in (ONE, HOME, BATCHES)],
]
# The same, where the noise alone shows it.
BY_NOISE = [
    *[
        (broken, it, EVERY)
        for it in (ONE, HOME)
        for broken in (
            "noise added before the clip",
            "noise by attempt",
            "no noise when repeated",
            "no noise in smaller cohorts",
            "no noise late in a job",
        )
    ],
    *[
        (broken, ONE, EVERY)
        for broken in (
            "noise where something stands",
            "noise scaled by the records",
            "noise of the round before",
        )
    ],
    ("no noise at every second step", HOME, {"update"}),
    *[("no noise in evaluations", it, {"evaluation"}) for it in (ONE, HOME)],
    *[("no noise without an evaluation", it, {"update"}) for it in (ONE, HOME)],
    *[("no noise at a high rate", it, {"update", "evaluation"}) for it in (ONE, HOME)],
]
# The same, where what draws and segments tell about each other shows it, or people chosen for it: both audits, whole.
BY_EITHER = [
    ("one key for all segments", ONE, {"evaluation"}),
    *[
        (broken, ONE, EVERY)
        for broken in (
            "even noise",
            "noise with long tails",
            "noise of coarse steps",
            "noise of two rounds before",
        )
    ],
    *[(broken, HOME, {"evaluation"}) for broken in ("even noise", "noise with long tails")],
    # At three numbers an upload nothing need come so far.
    ("noise cut off", ONE, {"evaluation"}),
    *[
        (broken, MANY, {"update", "statistics"})
        for broken in ("rows counted beside each other", "rows counted by chunk")
    ],
    ("clip of two rows at a time", ONE, {"update"}),
    ("clip of columns as they were", ONE, {"update"}),
    ("number of records beside", ONE, {"update"}),
    ("sum not weighted", SMALL, {"update"}),
]
# Who is in a batch is looked at in thousands of them, where that is what is broken.
OF_BATCHES = {"everybody in every batch", "batches twice as large"}
# One of each kind: how far, from where, when again.
QUICK = {"rows count whole", "noise of a 32-bit seed", "no noise when repeated"}


@pytest.mark.parametrize(
    ("broken", "name", "where"), cases(BY_MOVES, quick=lambda it: it[0] in QUICK and it[1] in (ONE, MANY))
)
def test_a_broken_mechanism_shows_in_how_far_one_person_reaches(
    broken: str, name: str, where: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    who, claim = setting(name)
    if broken not in OF_BATCHES:
        monkeypatch.setattr(moves, "BATCHES", 1)
        monkeypatch.setattr(moves, "IN_BATCHES", 0)
    BROKEN[broken](monkeypatch)
    found = findings(one_person(who, claim))
    assert where <= {segment for segment, sentences in found.items() if sentences}, found


@pytest.mark.parametrize(
    ("broken", "name", "where"), cases(BY_NOISE, quick=lambda it: it[0] in QUICK and it[1] in (ONE, MANY))
)
def test_a_broken_mechanism_shows_in_the_noise_alone(
    broken: str, name: str, where: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    who, claim = setting(name)
    BROKEN[broken](monkeypatch)
    found = findings(the_noise(who, claim))
    assert where <= {segment for segment, sentences in found.items() if sentences}, found


@pytest.mark.parametrize(
    ("broken", "name", "where"), cases(BY_EITHER, quick=lambda it: it[0] == "rows counted by chunk")
)
def test_a_broken_mechanism_shows_in_one_of_both(
    broken: str, name: str, where: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    who, claim = setting(name)
    BROKEN[broken](monkeypatch)
    found = findings((*one_person(who, claim), *audit_noise(who, claim)))
    assert where <= {segment for segment, sentences in found.items() if sentences}, found


@pytest.mark.slow
def test_noise_that_comes_again_far_off_in_a_long_update_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    who = subject(60)
    columns = tuple(NumericColumn(name=f"column {number}", low=-2, high=2) for number in range(100))
    features = who.charter.task.features.model_copy(update={"columns": columns})
    task = who.charter.task.model_copy(update={"features": features})
    X = np.random.default_rng(0).normal(size=(len(who.records), len(columns)))
    charter = who.charter.model_copy(update={"task": task})
    who = replace(who, charter=charter, records=replace(who.records, X=X))
    claim = claim_of(who, 2.0, 3)
    assert [it.findings for it in audit_noise(who, claim)] == [(), (), ()]
    BROKEN["noise of one half in the other"](monkeypatch)
    assert "numbers of one draw of noise tell about each other" in audit_noise(who, claim)[0].findings


@pytest.mark.parametrize("name", cases(ALL_SETTINGS, quick=lambda it: it != BATCHES))
def test_one_person_reaches_as_far_as_is_charged_for_and_no_further(name: str) -> None:
    who, claim = setting(name)
    for it in audit_moves(who, claim, seed=3):
        assert not it.findings
        assert it.largest == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("label", cases(LABELS, quick=lambda it: it == "common"))
@pytest.mark.parametrize("model", ["linear", pytest.param("mlp", marks=pytest.mark.slow), "additive"])
@pytest.mark.parametrize("mechanism", ["gradient", "moments"])
def test_every_model_and_label_keeps_to_the_clip(mechanism: str, model: str, label: str) -> None:
    if mechanism == "moments" and (model == "mlp" or label == "classes"):
        pytest.skip("the charter refuses it")
    who = with_task(model, label, mechanism)
    found = audit_moves(who, claim_of(who, 1.0, 1), seed=1)
    assert [it.segment for it in found] == ["update", "evaluation", "statistics"]
    for it in found:
        assert not it.findings
        assert it.largest > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("label", ["rare", "number"])
def test_moments_have_canaries_of_their_own(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    who = with_task("additive", label, "moments")
    claim = claim_of(who, 1.0, 1)
    audits = [audit_moments(who, claim, canaries=1000, guesses=100, seed=seed) for seed in range(6)]
    assert {it.verdict for it in audits} == {"not refuted"}
    assert claim.mu is not None
    error = audits[0].separation_error / np.sqrt(len(audits))
    assert abs(np.mean([it.separation for it in audits]) - claim.mu) < 0.1 * claim.mu + 5 * error
    assert not any(it.findings for it in audit_noise(who, claim))
    assert audit_own_model(who, claim, canaries=1000, guesses=100, seed=1) is None
    with monkeypatch.context() as patch:
        BROKEN["a tenth of the noise"](patch)
        assert audit_moments(who, claim, canaries=1000, guesses=100, seed=1).verdict == "refuted"
    BROKEN["clips of sums twice as long"](monkeypatch)
    assert findings(one_person(who, claim))["update"] == [
        "one person moves it 2 times as far as is charged for"
    ]


def with_task(model: str, label: str, mechanism: str) -> Subject:
    """A member whose charter has that model, label and mechanism, and a column of categories."""
    who = subject(
        60,
        privacy=PrivacyPlan(noise="local", fewest_rounds=1),
        training=Training(max_entities=10_000, max_records=3),
    )
    ward = CategoricalColumn(name="ward", categories=("east", "west"), missing="east")
    features = FeatureContract(columns=(*TWO, ward), label=LABELS[label])
    options = {"hidden": [8]} if model == "mlp" else {}
    task = who.charter.task.model_copy(
        update={"features": features, "model": ModelChoice(name=model, options=options)}
    )
    training = who.charter.training.model_copy(update={"mechanism": mechanism})
    charter = who.charter.model_copy(update={"task": task, "training": training})
    X = np.column_stack([who.records.X, np.zeros((len(who.records), len(features.encoded) - 2))])
    return replace(who, charter=charter, records=replace(who.records, X=X))
