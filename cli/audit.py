"""`hansa audit`: does an organisation's own mechanism keep what its ledger claims? Nothing of it is sent anywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    from hansa.cli.instance import MemberFolder
    from hansa.clients.auditing import Claim, Subject

app = typer.Typer(add_completion=False)


@app.command()
def audit(
    org: Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Its folder, with member.toml and its records.")
    ] = None,
    instance: Annotated[
        Path | None,
        typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
    ] = None,
    canaries: Annotated[int, typer.Option(min=32, max=20_000, help="Made-up records.")] = 1000,
    guesses: Annotated[
        int | None, typer.Option(min=2, help="Fixed before anything is looked at; default: a tenth of them.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Default: as many as the ledger was charged.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1_000, help="Steps at home a round, with --epsilon.")] = 1,
    epsilon: Annotated[
        float | None, typer.Option(help="Audit this claim over --rounds, instead of the ledger's.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Of that claim; default: the largest the charter allows.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of canaries and coins, never of noise; default: drawn.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Attack this released model instead: who was it trained on?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Train with canaries on this machine and say which epsilon that proves. Exits 1 where it is above the claim."""
    from hansa.cli.instance import choose_member
    from hansa.clients.audit_input import read_subject

    member = choose_member(org, folder, instance)
    if model is not None:
        _attack(read_subject(member.folder, member.config), model, as_json=as_json)
        return
    fixed = canaries // 10 if guesses is None else guesses
    if fixed > canaries:
        raise InputError(f"--guesses {fixed}: there are {canaries} canaries")
    if epsilon is None and (delta is not None or steps != 1):
        raise InputError("--delta and --steps belong to --epsilon; without it the ledger's claim is audited")
    subject = read_subject(member.folder, member.config)
    claim = _claim(member, subject, epsilon, delta, rounds, steps)
    _audit(subject, claim, canaries=canaries, guesses=fixed, seed=_seed(seed), as_json=as_json)


def _claim(
    member: MemberFolder,
    subject: Subject,
    epsilon: float | None,
    delta: float | None,
    rounds: int | None,
    steps: int,
) -> Claim:
    from hansa.clients.audit_input import ROUNDS, ledger_claim, planned_claim

    charter = subject.charter
    if epsilon is None:
        return ledger_claim(member.folder, charter, rounds=rounds)
    return planned_claim(
        charter,
        epsilon=epsilon,
        delta=charter.privacy.delta if delta is None else delta,
        rounds=rounds or ROUNDS,
        steps=steps,
    )


def _audit(subject: Subject, claim: Claim, *, canaries: int, guesses: int, seed: int, as_json: bool) -> None:
    from hansa.cli.audit_report import Audited, report_json, report_lines, wrong
    from hansa.cli.listing import print_facts
    from hansa.clients.audit_moments import audit_moments
    from hansa.clients.audit_moves import audit_moves
    from hansa.clients.audit_noise import audit_noise
    from hansa.clients.audit_own import audit_own_model
    from hansa.clients.auditing import audit_mechanism

    canary_audit = audit_moments if subject.charter.training.mechanism == "moments" else audit_mechanism
    try:
        _under_way(1, f"{canaries} canaries in the mechanism")
        mechanism = canary_audit(subject, claim, canaries=canaries, guesses=guesses, seed=seed)
        _under_way(2, f"{canaries} canaries in a model of its own")
        own = audit_own_model(subject, claim, canaries=canaries, guesses=guesses, seed=seed)
        _under_way(3, "the noise alone")
        noise = audit_noise(subject, claim)
        _under_way(4, "how far one record moves an update")
        moves = audit_moves(subject, claim, seed=seed)
    finally:
        _under_way(0)
    audited = Audited(mechanism=mechanism, own=own, noise=noise, moves=moves)
    if as_json:
        typer.echo(json.dumps(report_json(subject.name, claim, audited, seed=seed)))
    else:
        print_facts(report_lines(subject.name, claim, audited, seed=seed))
    found = wrong(claim, audited)
    if found:
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        raise HansaError(f"the claim of epsilon {claim.epsilon:.3g} does not hold: {found[0]}{more}")


def _under_way(step: int, what: str = "") -> None:
    """One line on a terminal, in the place of the one before; step 0 takes it away."""
    if sys.stderr.isatty():
        said = f"audit {step} of 4: {what} ..." if step else ""
        print(f"\r\x1b[K{said}", end="", file=sys.stderr, flush=True)


def _attack(subject: Subject, path: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from hansa.cli.listing import print_facts
    from hansa.clients.audit_input import read_released
    from hansa.clients.membership_attack import attack

    found = attack(subject, read_released(path, subject.charter))
    if as_json:
        typer.echo(json.dumps({"member": subject.name, "model": str(path), "attack": asdict(found)}))
        return
    share = f"{100 * found.confidence:g} %"
    apart = "the losses tell them apart" if found.low > 0.5 else "no better than a coin, as far as this shows"
    print_facts(
        [
            ("member", subject.name),
            ("model", str(path)),
            (
                "records",
                f"{found.trained} entities trained on, {found.held_out} held out, none of them leaves",
            ),
            (
                "attack",
                "by the loss of each entity: AUC "
                f"{found.auc:.3f}, {share} interval {found.low:.3f} to {found.high:.3f}",
            ),
            ("means", apart),
        ]
    )


def _seed(given: int | None) -> int:
    import secrets

    return secrets.randbits(32) if given is None else given
