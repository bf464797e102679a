"""What an audit is of: a member's records as its agent reads them, and what its ledger claims."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.clients.auditing import Claim, Subject
from hansa.clients.budget import sampling_rate
from hansa.clients.data.encode import encode
from hansa.clients.data.sources import origin, read_source
from hansa.clients.forgotten import FORGOTTEN, kept_records
from hansa.clients.ledger import LEDGER, read_rows, replay
from hansa.contract.charter import Charter
from hansa.contract.errors import CharterError, InputError
from hansa.contract.keys import read_private
from hansa.contract.scenario import MemberConfig
from hansa.contract.segments import PREPARATION
from hansa.contract.signatures import verify_charter
from hansa.models.preparation import Preparation
from hansa.models.registry import check_distribution, load_model
from hansa.privacy.book import Book
from hansa.privacy.currency import GDP, Currency, rdp_currency, release
from hansa.privacy.events import PoissonGaussian
from hansa.privacy.planning import JobBudget, plan_noise
from hansa.privacy.records import ChargeRow

# Rounds of an audit whose number nobody said.
ROUNDS = 60


def read_subject(folder: Path, config: MemberConfig) -> Subject:
    """A member's charter, records and split key, read and checked as its agent does.

    Raises
    ------
    HansaError : the charter is not signed by all, or does not name this member; the data departs from the contract
    """
    charter = verify_charter(folder / config.charter, folder / config.signatures).charter
    if charter.member(config.name) is None:
        raise CharterError(f"{folder / config.charter}: '{config.name}' is not among its members")
    check_distribution(charter.task.model)
    table = read_source(config.data, folder)
    secret = read_private(folder / "split.key", length=32)
    records = encode(table, charter.task.features, origin(config.data, folder))
    return Subject(
        name=config.name,
        charter=charter,
        records=kept_records(folder / FORGOTTEN, secret, records),
        secret=secret,
        knobs={name: knob.default for name, knob in charter.knobs.items()},
    )


def planned_claim(charter: Charter, *, epsilon: float, delta: float, rounds: int, steps: int) -> Claim:
    """What a grant of (epsilon, delta) would be spent on, had it no other job: so many rounds of so many steps.

    Raises
    ------
    InputError : an epsilon or delta that buys nothing
    """
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise InputError(f"--epsilon {epsilon:g}: it must be positive and finite")
    if not 0 < delta <= charter.privacy.delta:
        raise InputError(
            f"--delta {delta:g}: it must be above 0 and at most the charter's {charter.privacy.delta:g}"
        )
    rate = sampling_rate(charter)
    planned = [release(1.0, rounds * steps, rate)]
    currency = GDP if rate >= 1.0 else rdp_currency(epsilon, delta, planned)
    budget = JobBudget(rounds=rounds, steps=steps, sampling_rate=rate)
    plan = plan_noise(currency, currency.budget(epsilon, delta), budget)
    assert plan.train is not None
    return _claim(currency, plan.amounts.training, plan.train, delta, rounds=rounds, steps=steps, rate=rate)


def ledger_claim(folder: Path, charter: Charter, *, rounds: int | None = None) -> Claim:
    """What the newest job was charged for its training; of several kinds of noise, for the one that took most.

    A job that was approved twice, with another share, has charges at two multipliers: they are two mechanisms.

    Parameters
    ----------
    rounds : so many at the job's noise, instead of all that were charged

    Raises
    ------
    InputError : no ledger, or one that was charged nothing yet
    LedgerError : a damaged one
    """
    if charter.privacy.noise == "none":
        raise InputError(
            "the charter has no noise, so nothing is claimed; --epsilon says which claim to audit, "
            "as if it had noise 'local'"
        )
    path = folder / LEDGER
    book = replay(read_rows(path), path)
    kinds = _newest_training(book)
    if not kinds:
        raise InputError(f"{path}: no training was charged yet; --epsilon and --rounds say what to audit")
    charges = max(kinds, key=lambda kind: sum(row.amount for row in kind))
    first = charges[0]
    # Written by the agent: one event a charge of training.
    (event,) = first.events
    grant = book.grants[charges[-1].grant].row
    claim = _claim(
        book.data_sets[grant.data_set].row.currency,
        first.amount / event.count,
        event.noise_multiplier,
        grant.delta,
        rounds=rounds or len(charges),
        steps=event.count,
        rate=event.sampling_rate if isinstance(event, PoissonGaussian) else 1.0,
    )
    return replace(claim, others=sum(len(kind) for kind in kinds) - len(charges))


def read_released(path: Path, charter: Charter) -> dict[str, NDArray[np.float64]]:
    """A released model as `models.preparation.predict` takes it: what `jobs export` writes, or what an agent keeps.

    Raises
    ------
    InputError : no such file, or another content
    """
    if path.is_dir():
        raise InputError(f"--model {path}: is a folder; name the .safetensors file that `jobs export` wrote")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in ("weights", PREPARATION) if name in opened}
        else:
            from safetensors.numpy import load_file

            arrays = load_file(path)
        weights = np.asarray(arrays["weights"], dtype=np.float64)
    except FileNotFoundError:
        raise InputError(f"--model {path}: no such file") from None
    # What safetensors raises has no class of its own.
    except Exception as error:
        raise InputError(f"--model {path}: expected the .safetensors of `jobs export` ({error})") from None
    task = charter.task
    parameters = load_model(task.model, task.features).parameters
    if weights.shape != (parameters,) or not np.isfinite(weights).all():
        raise InputError(
            f"--model {path}: holds {weights.size} weights, the charter's model has {parameters}, all finite"
        )
    found = {"released": weights}
    # A job without a contract check keeps an empty one.
    if arrays.get(PREPARATION, weights[:0]).size:
        try:
            found[PREPARATION] = Preparation.read(arrays[PREPARATION], task.features).array
        except InputError as error:
            raise InputError(f"--model {path}: {error}") from None
    return found


def _newest_training(book: Book) -> list[list[ChargeRow]]:
    """Training charges of the job that was charged last, those of one mechanism and price together."""
    charged = [row for row in book.charges.values() if row.purpose == "train" and not row.recovered]
    kinds: dict[object, list[ChargeRow]] = {}
    for row in charged:
        if row.job == charged[-1].job:
            kinds.setdefault((row.events, row.amount), []).append(row)
    return list(kinds.values())


def _claim(
    currency: Currency,
    amount: float,
    multiplier: float,
    delta: float,
    *,
    rounds: int,
    steps: int,
    rate: float,
) -> Claim:
    total = amount * rounds * steps
    return Claim(
        epsilon=currency.epsilon(total, delta),
        delta=delta,
        multiplier=multiplier,
        rounds=rounds,
        steps=steps,
        mu=currency.mu(total) if rate >= 1.0 else None,
    )
