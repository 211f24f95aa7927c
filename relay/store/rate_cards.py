"""Rate cards as they are kept: immutable, each in force from its moment until the next one's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, select

from relay.errors import Conflict, NotFound
from relay.store.ids import new_id
from relay.store.pages import Place, following
from relay.store.tables import accounts, rate_cards, templates


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCardRow:
    """A rate card; `effective_from` None means from the beginning of time. Money is in `currency`, times in seconds.

    An `offered` one is not in force by itself: it is for the sessions of templates that choose it.
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
) -> RateCardRow:
    """Add a card; an account's first one decides its currency.

    Without `effective_from` the first card holds from the beginning of time, later ones from now; an `offered` one has
    no beginning. Raises NotFound for the account, Conflict `currency_mismatch` for another currency, Conflict
    `rate_card_overlaps` when a card already begins at that moment.
    """
    lock = select(accounts.c.currency).where(accounts.c.id == account_id).with_for_update()
    account = connection.execute(lock).one_or_none()
    if account is None:
        raise NotFound("there is no account by this id")
    if account.currency not in {None, currency}:
        text = f"this account is charged in {account.currency}; one account has one currency"
        raise Conflict(text, code="currency_mismatch", field="currency")
    if not offered:
        effective_from = _beginning(connection, account_id, effective_from)
    if account.currency is None:
        connection.execute(accounts.update().where(accounts.c.id == account_id).values(currency=currency))
    row = {
        "id": new_id("rc"),
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
    }
    made = connection.execute(rate_cards.insert().values(row).returning(*rate_cards.c)).mappings().one()
    return RateCardRow(**made)


def _beginning(connection: Connection, account_id: str, asked: datetime | None) -> datetime | None:
    """When a new card begins. Raises Conflict if another one does then."""
    timeline = (rate_cards.c.account_id == account_id) & ~rate_cards.c.offered
    beginnings = set(connection.execute(select(rate_cards.c.effective_from).where(timeline)).scalars())
    if asked is None and beginnings:
        # Not now(), which is when the transaction began: another card may have been added while this one waited.
        asked = connection.execute(select(func.clock_timestamp())).scalar_one()
    if asked in beginnings:
        raise Conflict("a rate card of this account begins then", code="rate_card_overlaps", field="from")
    return asked


def in_force(connection: Connection, account_ids: Collection[str]) -> dict[str, list[RateCardRow]]:
    """The cards of each account, but offered ones, in the order they begin; an account without one has none."""
    found = select(rate_cards).where(rate_cards.c.account_id.in_(account_ids), ~rate_cards.c.offered)
    ordered = found.order_by(rate_cards.c.account_id, rate_cards.c.effective_from.asc().nulls_first())
    cards: dict[str, list[RateCardRow]] = {account_id: [] for account_id in account_ids}
    for row in connection.execute(ordered).mappings():
        cards[row["account_id"]].append(RateCardRow(**row))
    return cards


def of_templates(connection: Connection, template_ids: Collection[int]) -> dict[tuple[str, int], RateCardRow]:
    """The card of each of these templates that has one of its own, by account and template; deleted ones too."""
    if not template_ids:
        return {}
    joined = templates.join(
        rate_cards,
        (templates.c.rate_card_id == rate_cards.c.id) & (templates.c.account_id == rate_cards.c.account_id),
    )
    named = select(templates.c.id.label("template_id"), *rate_cards.c).select_from(joined)
    found = connection.execute(named.where(templates.c.id.in_(template_ids))).mappings()
    plain = [dict(row) for row in found]
    return {(row["account_id"], row.pop("template_id")): RateCardRow(**row) for row in plain}


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
