"""What was decided about a job while it ran, on what figures, and why. A key is decided once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.typed import Frozen, Sentence, Slug

DecisionKey = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{1,120}$")]
# Who decides: the strategy by what a probe found, or a part of the sidecar.
Decider = Literal["probe", "tuner", "watch", "recovery", "members", "audit"]
# Lists, as JSON has them: what came over the wire and what was made here are alike.
Input = float | int | str | list[float | None] | list[str] | None


class Decision(Frozen):
    """One decision.

    Parameters
    ----------
    key : names it within its job; a key that is there already is not decided again
    round : newest round that it was made on
    sentence : the explanation
    knobs : what it set, by knob; empty where it set none
    probe : whether the next step that may be is to be probed
    inputs : the figures that it was made from, by name
    """

    key: DecisionKey
    by: Decider
    round: Annotated[int, Field(ge=0, lt=2**31)]
    sentence: Annotated[Sentence, Field(min_length=1)]
    knobs: Annotated[dict[Slug, float], Field(max_length=16)] = {}
    probe: bool = False
    inputs: Annotated[dict[Annotated[str, Field(max_length=63)], Input], Field(max_length=64)] = {}
