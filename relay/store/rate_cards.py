"""Rate cards as they are kept: immutable, each in force from its moment until the next one's of the same scope.

A scope is the whole account, one of its templates, or a tag. A template's card comes before a tag's, and that before
the account's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from relay.errors import Conflict, NotFound
from relay.store.ids import new_id
from relay.store.pages import Place, following
from relay.store.tables import accounts, rate_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCardRow:
    """A rate card; `effective_from` None means from the beginning of time. Money is in `currency`, times in seconds.

    An `offered` one is not in force by itself: it is for the sessions of templates that choose it. One with a
    `template_id` or a `tag` is in force for the sessions of those alone. `components` are prices per minute by name;
    `month_price` is JSON as billing.month_prices reads it.
    """

    id: str
    account_id: str
    per_minute: Decimal
    currency: str
    initial_seconds: int
    increment_seconds: int
    connect_fee: Decimal
    free_seconds: int
    min_charge: Decimal | None
    max_charge: Decimal | None
    decimals: int
    rounding: str
    effective_from: datetime | None
    created_at: datetime
    offered: bool = False
    template_id: int | None = None
    tag: str | None = None
    components: Mapping[str, str] | None = field(default=None, hash=False)
    markup: Decimal | None = None
    month_price: Mapping[str, Any] | None = field(default=None, hash=False)


class Scope(NamedTuple):
    """What a card is in force for: a template, a tag, or with neither the whole account."""

    template_id: int | None = None
    tag: str | None = None


@dataclass(slots=True)
class Cards:
    """The cards of one account: those of each scope in the order in which they begin, and all by their ids."""

    timelines: dict[Scope, list[RateCardRow]] = field(default_factory=dict)
    by_id: dict[str, RateCardRow] = field(default_factory=dict)

    def add(self, row: RateCardRow) -> None:
        """Take in a card. Those of a scope come in the order in which they begin."""
        self.by_id[row.id] = row
        if not row.offered:
            self.timelines.setdefault(Scope(row.template_id, row.tag), []).append(row)

    def at(self, when: datetime, *, template_id: int | None = None, tag: str | None = None) -> RateCardRow | None:
        """The card for a call that began then: its template's, else its tag's, else the account's; None if none is."""
        timelines = self.timelines
        if len(timelines) > 1 or _ACCOUNT not in timelines:
            for scope in (Scope(template_id, None), Scope(None, tag)):
                row = card_at(timelines[scope], when) if scope != _ACCOUNT and scope in timelines else None
                if row is not None:
                    return row
        return card_at(timelines.get(_ACCOUNT, ()), when)


_ACCOUNT = Scope()


def add(
    connection: Connection,
    account_id: str,
    *,
    per_minute: Decimal,
    currency: str = "USD",
    initial_seconds: int = 1,
    increment_seconds: int = 1,
    connect_fee: Decimal = Decimal(0),
    free_seconds: int = 0,
    min_charge: Decimal | None = None,
    max_charge: Decimal | None = None,
    decimals: int = 6,
    rounding: str = "half_up",
    effective_from: datetime | None = None,
    offered: bool = False,
    scope: Scope = _ACCOUNT,
    components: Mapping[str, str] | None = None,
    markup: Decimal | None = None,
    month_price: Mapping[str, Any] | None = None,
) -> RateCardRow:
    """Add a card; an account's first one decides its currency.

    Without `effective_from` the first card of a scope holds from the beginning of time, later ones from now; an
    `offered` one has no beginning. Where this card or the one before it has a price for whole months, it begins with a
    month (UTC): without `effective_from` the next one, unless it is the first; so does the one after such a card.
    Raises NotFound for the account, and Conflict: `currency_mismatch` for another currency, `rate_card_overlaps` when a
    card already begins at that moment, `rate_card_mid_month`.
    """
    lock = select(accounts.c.currency).where(accounts.c.id == account_id).with_for_update()
    account = connection.execute(lock).one_or_none()
    if account is None:
        raise NotFound("there is no account by this id")
    if account.currency not in {None, currency}:
        text = f"this account is charged in {account.currency}; one account has one currency"
        raise Conflict(text, code="currency_mismatch", field="currency")
    if not offered:
        effective_from = _beginning(connection, account_id, scope, effective_from, is_monthly=month_price is not None)
    if account.currency is None:
        connection.execute(accounts.update().where(accounts.c.id == account_id).values(currency=currency))
    row = {
        "id": new_id("rc"),
        # Not now(), when the transaction began: a month may have been closed while this one waited for the lock.
        "created_at": func.clock_timestamp(),
        "account_id": account_id,
        "per_minute": per_minute,
        "currency": currency,
        "initial_seconds": initial_seconds,
        "increment_seconds": increment_seconds,
        "connect_fee": connect_fee,
        "free_seconds": free_seconds,
        "min_charge": min_charge,
        "max_charge": max_charge,
        "decimals": decimals,
        "rounding": rounding,
        "effective_from": None if offered else effective_from,
        "offered": offered,
        "template_id": scope.template_id,
        "tag": scope.tag,
        "components": None if components is None else dict(components),
        "markup": markup,
        "month_price": None if month_price is None else dict(month_price),
    }
    made = connection.execute(rate_cards.insert().values(row).returning(*rate_cards.c)).mappings().one()
    return RateCardRow(**made)


def _beginning(
    connection: Connection, account_id: str, scope: Scope, asked: datetime | None, *, is_monthly: bool
) -> datetime | None:
    """When a new card begins. Raises Conflict if another one of its scope does then, or if it must begin a month."""
    rows = of_accounts(connection, {account_id})[account_id].timelines.get(scope, [])
    if asked is None and rows:
        # Not now(), which is when the transaction began: another card may have been added while this one waited.
        asked = connection.execute(select(func.clock_timestamp())).scalar_one()
        before = card_at(rows, asked)
        if is_monthly or (before is not None and before.month_price is not None):
            asked = _next_month(asked)
    if any(row.effective_from == asked for row in rows):
        raise Conflict("a rate card begins then already", code="rate_card_overlaps", field="from")
    before = None if asked is None else card_at(rows, asked)
    if asked is not None and (is_monthly or (before and before.month_price)) and asked != _month(asked):
        text = "prices for whole months begin and end with a month: give the first of one, 00:00 UTC"
        raise Conflict(text, code="rate_card_mid_month", field="from")
    ends = _next_beginning(rows, asked) if is_monthly else None
    if ends is not None and ends != _month(ends):
        text = "prices for whole months end with a month, and the card after this one begins within one"
        raise Conflict(text, code="rate_card_mid_month", field="from")
    return asked


def _next_beginning(rows: Iterable[RateCardRow], after: datetime | None) -> datetime | None:
    """When the first card begins that is after this moment; None, the beginning of time, is before all."""
    beginnings = (row.effective_from for row in rows if row.effective_from is not None)
    return min((one for one in beginnings if after is None or one > after), default=None)


def _month(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(when: datetime) -> datetime:
    month = _month(when)
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def of_accounts(connection: Connection, account_ids: Collection[str]) -> dict[str, Cards]:
    """All cards of each account; an account without one has none."""
    found = select(rate_cards).where(rate_cards.c.account_id.in_(account_ids))
    ordered = found.order_by(rate_cards.c.account_id, rate_cards.c.effective_from.asc().nulls_first())
    cards = {account_id: Cards() for account_id in account_ids}
    for row in connection.execute(ordered).mappings():
        cards[row["account_id"]].add(RateCardRow(**row))
    return cards


def is_offered(connection: Connection, *, account_id: str, card_id: str) -> bool:
    """Whether this account's templates may choose this card. The others are its past, present and future prices."""
    this = (rate_cards.c.account_id == account_id) & (rate_cards.c.id == card_id) & rate_cards.c.offered
    return connection.execute(select(rate_cards.c.id).where(this)).one_or_none() is not None


def of_account(
    connection: Connection, *, account_id: str, after: Place | None = None, limit: int | None = None
) -> list[RateCardRow]:
    """The cards of an account in the order in which they were made."""
    mine = select(rate_cards).where(rate_cards.c.account_id == account_id)
    found = connection.execute(following(mine, rate_cards, after=after, limit=limit))
    return [RateCardRow(**row) for row in found.mappings()]


def card_at(cards: Iterable[RateCardRow], when: datetime) -> RateCardRow | None:
    """The card of one account that is in force at a moment; None if the first begins later. Cards come in order.

    Ranges are half-open: a card holds from its own moment on, up to but not at the next one's.
    """
    chosen = None
    for card in cards:
        if card.effective_from is not None and card.effective_from > when:
            break
        chosen = card
    return chosen
