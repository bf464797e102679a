"""What an organisation decides about its own data: data sets, grants, freezing. Nothing here hears the server."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import keyed_hashes
from hansa.clients.ledger import Ledger
from hansa.clients.receipts import MOST_GRANTS
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.contract.scenario import FirstGrant
from hansa.contract.typed import Frozen, Slug, canonical_json
from hansa.privacy.book import Book
from hansa.privacy.currency import GDP, LEAST_ORDER, MOST_ORDER, Currency, rdp_currency
from hansa.privacy.people import sketch
from hansa.privacy.records import (
    AnyBody,
    DataSetRow,
    Delta,
    Epsilon,
    FreezeRow,
    GrantRow,
    Instant,
    SidesRow,
    Stated,
    Text,
    UnfreezeRow,
)

log = logging.getLogger("hansa.agent")

# Name of the grant that a demo begins with, and who gives it.
FIRST_GRANT, FIRST_BY = "first", "member.toml"


class GrantOrder(Frozen):
    """What `hansa budgets grant` says. The cap and its currency are given with a data set's first grant alone."""

    grant: Slug
    epsilon: Epsilon
    delta: Delta
    expires: Instant
    purpose: Stated
    legal_basis: Stated
    by: Stated
    reason: Text = ""
    data_set: Slug | None = None
    cap_epsilon: Epsilon | None = None
    cap_delta: Delta | None = None
    currency: Literal["gdp", "rdp"] | None = None
    order: Annotated[int, Field(ge=LEAST_ORDER, le=MOST_ORDER)] | None = None


class FreezeOrder(Frozen):
    """What `hansa budgets freeze` says."""

    grant: Slug
    reason: Stated
    by: Stated


class UnfreezeOrder(Frozen):
    """What `hansa budgets unfreeze` says."""

    grant: Slug
    reason: Text = ""
    by: Stated


def people_of(records: Dataset, secret: bytes) -> tuple[str, ...]:
    """The sketch of all entities of a table, under the member's own key."""
    return sketch(f"{word:016x}" for word in keyed_hashes(records.entities, secret, b"people").tolist())


@dataclass(frozen=True)
class Sides:
    """By what a member's records are put on the side of training or of measuring; see `data.split`."""

    holdout: float
    # The contract's entity column; empty where each record counts by itself.
    entity: str
    fingerprint: str

    @classmethod
    def of(cls, features: FeatureContract, secret: bytes, columns: Collection[str]) -> Sides:
        """As `encode` and `split` do it under this contract, with the member's own key.

        Parameters
        ----------
        columns : those of the contract that hold a value in the member's table (`encode.identifying`)
        """
        # Without an entity column a record is known by what it has in the contract's columns.
        known_by: list[str] = []
        if not features.entity:
            known_by = [f"{it.kind} {it.name}" for it in features.columns if it.name in columns]
            known_by.append(features.label.column)
        content = b"sides" + canonical_json([features.holdout, features.entity, known_by])
        fingerprint = hmac.new(secret, content, hashlib.sha256).hexdigest()[:32]
        return cls(features.holdout, features.entity or "", fingerprint)

    def row(self, data_set: str) -> SidesRow:
        """As the ledger has it."""
        return SidesRow(
            data_set=data_set, holdout=self.holdout, entity=self.entity, fingerprint=self.fingerprint
        )


class Grants:
    """The organisation's side of its ledger.

    Parameters
    ----------
    data_set : what the member calls the records that its agent reads
    people : the sketch of their entities
    sides : who of them trains and who is held out

    Raises
    ------
    InputError : the data set's new version holds the people of another data set
    """

    def __init__(
        self, ledger: Ledger, charter: Charter, *, data_set: str, people: Sequence[str], sides: Sides
    ) -> None:
        self.ledger = ledger
        self._charter = charter
        self.data_set = data_set
        self._people = tuple(people)
        self._sides = sides
        with ledger.held() as book:
            known = book.data_sets.get(data_set)
            if known is None:
                return
            if self._people not in known.people:
                ledger.record(known.row.model_copy(update={"people": self._people}))
            if all(it.fingerprint != sides.fingerprint for it in known.sides):
                if known.sides:
                    log.warning(
                        "people are chosen for training and for measuring another way than before: "
                        "what both lose of data set '%s' is added up from now on",
                        data_set,
                    )
                ledger.record(sides.row(data_set))

    def begin(self, first: FirstGrant) -> None:
        """Enter what a demo's `member.toml` grants, into an empty ledger only."""
        with self.ledger.held() as book:
            if book.head.sequence == 0:
                days = timedelta(days=first.days)
                self.grant(
                    GrantOrder(
                        grant=FIRST_GRANT,
                        epsilon=first.epsilon,
                        delta=first.delta,
                        expires=self.ledger.time() + days,
                        purpose=first.purpose,
                        legal_basis=first.legal_basis,
                        by=FIRST_BY,
                        reason="the first start of the agent",
                        cap_epsilon=first.cap_epsilon,
                        currency=first.currency,
                    )
                )

    def grant(self, order: GrantOrder) -> GrantRow:
        """Grant a budget out of the data set's lifetime cap; the first grant of a data set sets that cap.

        Raises
        ------
        InputError : what is wrong, and then nothing is written
        """
        name = order.data_set or self.data_set
        with self.ledger.held() as book:
            self._check_delta(order.delta)
            self._check_room(book, self.ledger.time())
            bodies: list[AnyBody] = []
            known = book.data_sets.get(name)
            if known is None:
                new = self._new_row(name, order)
                bodies += [new, self._sides.row(name)]
                currency = new.currency
            else:
                currency = known.row.currency
                _check_same_cap(known.row, order)
            row = GrantRow(
                grant=order.grant,
                data_set=name,
                epsilon=order.epsilon,
                delta=order.delta,
                amount=currency.budget(order.epsilon, order.delta),
                expires=order.expires,
                purpose=order.purpose,
                legal_basis=order.legal_basis,
                granted_by=order.by,
                reason=order.reason,
            )
            self.ledger.record(*bodies, row)
            return row

    def freeze(self, order: FreezeOrder) -> None:
        """Nothing is charged to a grant any more."""
        self.ledger.record(FreezeRow(grant=order.grant, reason=order.reason, by=order.by))

    def unfreeze(self, order: UnfreezeOrder) -> None:
        """A grant may be charged again."""
        self.ledger.record(UnfreezeRow(grant=order.grant, reason=order.reason, by=order.by))

    def _new_row(self, name: str, order: GrantOrder) -> DataSetRow:
        if name != self.data_set:
            raise InputError(
                f"data set '{name}' is not known: this agent reads '{self.data_set}', as member.toml names it"
            )
        if not self._people:
            raise InputError(f"data set '{name}' holds nobody, so there is nothing to grant")
        epsilon = order.epsilon if order.cap_epsilon is None else order.cap_epsilon
        delta = order.delta if order.cap_delta is None else order.cap_delta
        self._check_delta(delta)
        currency = self._currency(order, epsilon, delta)
        return DataSetRow(
            name=name,
            currency=currency,
            epsilon=epsilon,
            delta=delta,
            cap=currency.budget(epsilon, delta),
            people=self._people,
        )

    def _currency(self, order: GrantOrder, epsilon: float, delta: float) -> Currency:
        training = self._charter.training
        samples = training.mechanism == "poisson" and training.sampling_rate < 1
        name = order.currency or ("rdp" if samples or order.order is not None else "gdp")
        if name == "gdp":
            if order.order is not None:
                raise InputError("field 'order': currency gdp has no Rényi order; leave it out")
            if samples:
                raise InputError(
                    "field 'currency': the charter's mechanism 'poisson' cannot be counted in gdp; use rdp"
                )
            return GDP
        if order.order is not None:
            return Currency(name="rdp", order=order.order)
        # The order that is best for Gaussian releases costs Poisson samples a few percent more noise than theirs.
        return rdp_currency(epsilon, delta)

    def _check_delta(self, delta: float) -> None:
        most = self._charter.privacy.delta
        if delta > most:
            raise InputError(
                f"a delta of {delta:g} is above the charter's public bound, privacy.delta = {most:g}"
            )

    def _check_room(self, book: Book, now: datetime) -> None:
        live = sum(not it.expired(now) for it in book.grants.values())
        if live >= MOST_GRANTS:
            raise InputError(f"{live} grants have not expired, and a receipt has room for {MOST_GRANTS}")


def _check_same_cap(known: DataSetRow, order: GrantOrder) -> None:
    """The cap is fixed: whoever states another one believes in something that does not hold."""
    stated = {
        "cap_epsilon": (order.cap_epsilon, known.epsilon),
        "cap_delta": (order.cap_delta, known.delta),
        "currency": (order.currency, known.currency.name),
        "order": (order.order, known.currency.order),
    }
    for field, (asked, fixed) in stated.items():
        if asked is not None and asked != fixed:
            raise InputError(
                f"field '{field}': data set '{known.name}' has {fixed} for good since its first grant, not {asked}"
            )
