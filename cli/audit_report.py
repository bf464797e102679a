"""What an audit found, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hansa.clients.audit_moves import Moves
from hansa.clients.audit_noise import NoiseAudit
from hansa.clients.auditing import CanaryAudit, Claim, estimated_epsilon

# An estimate this many errors above the claim is no chance: once in thirty thousand audits.
FAR = 4.0


@dataclass(frozen=True)
class Audited:
    """All that one audit saw; `own` is None where canaries cannot be told apart in the own model."""

    mechanism: CanaryAudit
    own: CanaryAudit | None
    noise: Sequence[NoiseAudit]
    moves: Sequence[Moves]

    @property
    def canaries(self) -> list[tuple[str, CanaryAudit]]:
        """Both audits by canaries, or the one there is."""
        both = (("the mechanism", self.mechanism), ("the own model", self.own))
        return [(what, audit) for what, audit in both if audit is not None]


def wrong(claim: Claim, audited: Audited) -> list[str]:
    """Sentences on what speaks against the claim, proofs first; none where nothing does."""
    found = []
    for what, audit in audited.canaries:
        if audit.verdict == "refuted":
            found.append(
                f"canaries in {what} prove at least {audit.bound:.3g} "
                f"({audit.right} of {audit.guesses} guesses right)"
            )
    found += [f"'{it.segment}': {sentence}" for it in audited.moves for sentence in it.findings]
    found += [f"noise of '{it.segment}': {sentence}" for it in audited.noise for sentence in it.findings]
    for what, audit in audited.canaries:
        if too_far(claim, audit):
            found.append(
                f"scores of canaries in {what} lie {audit.separation:.3g} standard deviations apart, "
                f"the claim allows {claim.mu:.3g}"
            )
    return found


def too_far(claim: Claim, audit: CanaryAudit) -> bool:
    """Whether the estimate is above the claim by more than chance."""
    return claim.mu is not None and audit.separation - FAR * audit.separation_error > claim.mu


def report_json(member: str, claim: Claim, audited: Audited, *, seed: int) -> dict[str, Any]:
    """One object; numbers that are not finite are null."""
    findings = wrong(claim, audited)
    return {
        "member": member,
        "seed": seed,
        "claim": asdict(claim),
        "verdict": "refuted" if findings else _verdict(audited),
        "findings": findings,
        "mechanism": _canaries_json(audited.mechanism),
        "own_model": None if audited.own is None else _canaries_json(audited.own),
        "noise": [asdict(it) for it in audited.noise],
        "moves": [asdict(it) for it in audited.moves],
    }


def report_lines(member: str, claim: Claim, audited: Audited, *, seed: int) -> list[tuple[str, str]]:
    """A report for people."""
    mechanism, own = audited.mechanism, audited.own
    each = f"{claim.rounds} rounds" + (f" of {claim.steps} steps" if claim.steps > 1 else "")
    lines = [
        ("member", f"{member}; nothing of this leaves"),
        (
            "claim",
            f"epsilon {claim.epsilon:.4g} at delta {claim.delta:g}: {each}, noise multiplier {claim.multiplier:.4g}"
            + (f"; {claim.others} rounds of this job at another noise are not in it" if claim.others else ""),
        ),
        (
            "mechanism",
            f"the charter's training over {mechanism.own_rows} own rows and {mechanism.included} of "
            f"{mechanism.canaries} canaries, each in columns of its own (seed {seed})",
        ),
        *_canary_lines(claim, mechanism),
    ]
    if own is None:
        lines.append(
            ("own model", "not audited by itself: too few numbers are released to hold canaries apart")
        )
    else:
        lines.append(
            (
                "own model",
                f"the charter's own columns, {own.own_rows} own rows and {own.included} of {own.canaries} canaries, "
                f"{own.rounds} rounds of the same epsilon",
            )
        )
        lines += _canary_lines(claim, own)
    lines += [("one person", _moves_line(it)) for it in audited.moves]
    lines += [("noise", _noise_line(it)) for it in audited.noise]
    lines.append(("verdict", verdict_line(claim, audited)))
    return lines


def verdict_line(claim: Claim, audited: Audited) -> str:
    """One sentence, which does not say more than was seen."""
    findings = wrong(claim, audited)
    if findings:
        return "refuted: " + "; ".join(findings)
    mechanism = audited.mechanism
    doubted = next((it for _, it in audited.canaries if it.bound > claim.epsilon), None)
    if doubted is not None:
        return (
            f"inconclusive: {doubted.right} of {doubted.guesses} guesses were right, which may be chance; "
            "another audit says more"
        )
    if mechanism.verdict == "inconclusive":
        return (
            f"inconclusive: {mechanism.guesses} guesses could have certified {mechanism.largest:.3g} at most, "
            f"the claim is {claim.epsilon:.3g}; more --canaries and --guesses reach further"
        )
    return f"not refuted: nothing here speaks against epsilon {claim.epsilon:.3g}; that is no proof of it"


def _canary_lines(claim: Claim, audit: CanaryAudit) -> list[tuple[str, str]]:
    sure = f"{100 * audit.confidence:g} %"
    lines = [
        (
            "  certified",
            f"epsilon at least {audit.bound:.3g} ({sure} confidence): {audit.right} of {audit.guesses} guesses "
            f"right; all right would have certified {audit.largest:.3g}",
        )
    ]
    if claim.mu is not None and math.isfinite(audit.separation):
        lines.append(
            (
                "  estimate",
                f"epsilon about {estimated_epsilon(audit):.3g}: scores {audit.separation:.3g} ± "
                f"{audit.separation_error:.2g} standard deviations apart, {claim.mu:.3g} claimed (no proof)",
            )
        )
    return lines


def _moves_line(audit: Moves) -> str:
    found = "; ".join(audit.findings) or "nothing found"
    return (
        f"'{audit.segment}': {audit.people} made-up people, one alone moved it {audit.largest:.4f} of what is "
        f"charged for; {found}"
    )


def _noise_line(audit: NoiseAudit) -> str:
    level = "" if audit.level is None else f"{audit.level:.3f} of what is charged for, "
    found = "; ".join(audit.findings) or "nothing found"
    return f"'{audit.segment}', {audit.draws} draws: {level}least direction {audit.least:.2f}; {found}"


def _verdict(audited: Audited) -> str:
    """The mechanism's, unless canaries of the own model came out too well and might have done so by chance."""
    own = audited.own
    return "inconclusive" if own is not None and own.bound > own.claimed else audited.mechanism.verdict


def _canaries_json(audit: CanaryAudit) -> dict[str, Any]:
    said = asdict(audit) | {"estimated_epsilon": estimated_epsilon(audit)}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in said.items()
    }
