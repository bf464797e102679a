"""Residual risks of a charter, from docs/threat-model.md: which hold depends on its mode and its noise.

Each title is one of that page's, word for word: a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hansa.contract.charter import Charter


@dataclass(frozen=True)
class Risk:
    """A risk that stays: the threat model's title, what it means to people here, and where it holds."""

    title: str
    says: Callable[[Charter], str]
    holds: Callable[[Charter], bool] = lambda _: True


def _mode(*modes: str) -> Callable[[Charter], bool]:
    return lambda it: it.protection.mode in modes


def residual(charter: Charter) -> list[tuple[str, str]]:
    """(title, sentence) of each risk that stays under this charter."""
    return [(it.title, it.says(charter)) for it in RISKS if it.holds(charter)]


RISKS = (
    Risk(
        "Mode `clear`: the server reads every update",
        lambda _: (
            "Nothing hides one organisation's update from the server; of a linear model it tells a great deal "
            "about the records behind it. This mode is for debugging: with personal data it is hard to defend."
        ),
        _mode("clear"),
    ),
    Risk(
        "Mode `masked`: the server learns the sum and the model",
        lambda _: (
            "The operator sees each round's sum over the organisations, and the model. A wrong sum is not "
            "noticed: the server is trusted to add."
        ),
        _mode("masked"),
    ),
    Risk(
        "A member alone",
        lambda _: (
            "Every organisation sees each sum of the others' updates; the operator sees neither sums nor model "
            "unless an organisation gives it the job's keys."
        ),
        _mode("he"),
    ),
    Risk(
        "More than `c` members colluding with the server",
        lambda it: (
            f"More than {it.protection.c} of {len(it.members)} organisations that side with the operator "
            "together open the updates of the others."
        ),
        _mode("masked", "he"),
    ),
    Risk(
        "Noise `none`",
        lambda _: (
            "Models and figures are exact functions of the records. No bound holds on what they say of a single "
            "person; this assessment can name none."
        ),
        lambda it: it.privacy.noise == "none",
    ),
    Risk(
        "What differential privacy does not hide",
        lambda _: (
            "What the task says about groups is not hidden. A large epsilon bounds little: the figures in "
            "section 1 are the bound, no more."
        ),
        lambda it: it.privacy.noise != "none",
    ),
    Risk(
        "Learning about one record from what leaves",
        lambda it: (
            f"The noise is shared: the bound holds only while at most {it.privacy.s} organisations collude or "
            "drop out together. Alone, an organisation's share does not protect its people."
        ),
        lambda it: it.privacy.noise == "distributed",
    ),
    Risk(
        "A record that is another one tomorrow",
        lambda _: (
            "The contract names no entity column: what is bounded is one record, not a person who has several, "
            "and nobody can be forgotten by name."
        ),
        lambda it: it.task.features.entity is None,
    ),
    Risk(
        "Two members",
        lambda _: "Each of the two can subtract its own part from any sum: nothing is hidden from the other.",
        lambda it: len(it.members) == 2,
    ),
    Risk(
        "An audit shrinks the set that a member hides in",
        lambda it: (
            f"The charter has audit_groups: the operator sees sums of groups of {it.protection.audit_groups}."
        ),
        lambda it: it.protection.audit_groups is not None,
    ),
    Risk(
        "Two sums of almost the same members",
        lambda _: "What one organisation contributes shows in the difference of two rounds, up to the noise.",
    ),
    Risk(
        "Who takes part, when, in how many seconds, and how many bytes",
        lambda _: "The operator sees this of every organisation.",
    ),
    Risk(
        "The organisation's own user",
        lambda _: "Whoever runs as the agent's user can read the records and run other code in its place.",
    ),
    Risk(
        "What the server's mirror shows",
        lambda _: (
            "Names of grants and data sets, and what was granted and spent, are seen by operator and members."
        ),
        lambda it: it.privacy.noise != "none",
    ),
)
