"""A year of calls through the door, the outbox and the billing lane: its statements are what arithmetic says."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import EnvironBuilder, run_wsgi_app

from billing import statements
from billing.statements import closing
from relay.outbox import Outbox
from relay.queues import BILLING
from relay.settings import Settings
from relay.store import rate_cards
from relay.store.database import Database
from relay.store.rate_cards import Scope
from relay.store.tables import ledger, sessions
from relay.web import close, create_app
from tests.customers import Customer, Customers, Inlet
from tests.integration.billing import traffic_year as year
from tests.integration.billing.traffic_year import Call, Price
from tests.payloads import elevenlabs_headers, retell_headers
from workers.charge import ChargeLane

PROVIDERS: Final = ("retell", "elevenlabs")


# At once, so that commits come in groups.
SENDERS: Final = 8


class Webhook(NamedTuple):
    """What a provider sends of a call, by its number."""

    call: int
    provider: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Platform:
    """The door and the billing lane, in this process."""

    app: Flask
    lane: ChargeLane
    outbox: Outbox
    database: Database
    customers: Customers

    def tell(self, inlets: dict[str, Inlet], webhooks: Sequence[Webhook]) -> None:
        """Have providers send these, those of one call one after the other, and charge what they end."""
        senders: list[list[Webhook]] = [[] for _ in range(SENDERS)]
        for webhook in webhooks:
            senders[webhook.call % SENDERS].append(webhook)
        with ThreadPoolExecutor(SENDERS) as pool:
            for statuses in pool.map(partial(self._send, inlets), senders):
                assert statuses <= {"200 OK"}
        while self.lane.step():
            pass
        assert self.outbox.audit(BILLING).waiting == 0

    def _send(self, inlets: dict[str, Inlet], webhooks: Sequence[Webhook]) -> set[str]:
        """As the server calls the application; the statuses of the answers."""
        statuses = set()
        environs = {name: EnvironBuilder(path=urlsplit(one.url).path, method="POST") for name, one in inlets.items()}
        usual = {name: builder.get_environ() for name, builder in environs.items()}
        for webhook in webhooks:
            sign = retell_headers if webhook.provider == "retell" else elevenlabs_headers
            signature = sign(webhook.body, inlets[webhook.provider].secret)
            environ = usual[webhook.provider] | {
                "wsgi.input": io.BytesIO(webhook.body),
                "CONTENT_LENGTH": str(len(webhook.body)),
                "CONTENT_TYPE": "application/json",
                **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in signature.items()},
            }
            _, status, _ = run_wsgi_app(self.app.wsgi_app, environ, buffered=True)
            statuses.add(status)
        return statuses


@pytest.fixture
def platform(settings: Settings, database: Database, redis_client: redis.Redis) -> Iterator[Platform]:
    """A platform without customers."""
    app = create_app(settings)
    outbox = Outbox(redis_client)
    yield Platform(app, ChargeLane(outbox, database), outbox, database, Customers(settings, database, redis_client))
    close(app)


def customer_of(platform: Platform, workspace: str) -> tuple[Customer, dict[str, Inlet]]:
    """An account with the year's prices, its agents, and a source at each provider."""
    customer = platform.customers.create(per_minute=None)
    with platform.database.begin() as connection:

        def add(price: Price, **options: Any) -> str:
            return rate_cards.add(connection, customer.id, **_fields(price), **options).id

        add(year.FIRST)
        add(year.SECOND, effective_from=year.SECOND_CARD_FROM)
        add(year.MONTHLY, effective_from=year.MONTHLY_FROM)
        add(year.TAGGED, scope=Scope(tag=year.VIP_TAG))
        chosen = add(year.CHOSEN, offered=True)
    for provider in PROVIDERS:
        named = partial(year.agent_id, workspace, provider)
        customer.agent(provider, named(year.PLAIN))
        customer.agent(provider, named(year.VIP), tag=year.VIP_TAG)
        customer.agent(provider, named(year.OFFERED), rate_card_id=chosen)
        template_id = customer.agent(provider, named(year.ROUNDED))
        with platform.database.begin() as connection:
            scope, price = Scope(template_id=template_id), _fields(year.TO_CENTS)
            rate_cards.add(connection, customer.id, scope=scope, effective_from=year.ROUNDED_FROM, **price)
    return customer, {provider: customer.source(provider) for provider in PROVIDERS}


def _fields(price: Price) -> dict[str, Any]:
    """A price as the columns of a rate card."""
    tiers = [{"upTo": None if bound is None else str(bound), "unitPrice": unit} for bound, unit in price.tiers]
    return {
        "per_minute": Decimal(price.per_minute),
        "initial_seconds": price.initial,
        "increment_seconds": price.step,
        "free_seconds": price.free,
        "connect_fee": Decimal(price.fee),
        "min_charge": None if price.low is None else Decimal(price.low),
        "max_charge": None if price.high is None else Decimal(price.high),
        "decimals": price.decimals,
        "rounding": "up" if price.rounds_up else "half_up",
        "month_price": {"model": "graduated", "tiers": tiers} if tiers else None,
    }


def in_order(calls: Sequence[Call], workspace: str) -> list[Webhook]:
    """Their webhooks as they come when nothing goes wrong."""
    return [Webhook(call.number, call.provider, body) for call in calls for body in call.bodies(workspace)]


def shuffled(calls: Sequence[Call], workspace: str) -> list[Webhook]:
    """The same webhooks in any order, also those of one call, and each tenth twice."""
    webhooks = in_order(calls, workspace)
    webhooks += webhooks[::10]
    random.Random(7).shuffle(webhooks)
    return webhooks


def charged(database: Database, account_id: str) -> dict[str, Decimal | None]:
    """What each call of an account costs, by the ledger; None for those without a row."""
    net = (
        select(ledger.c.conversation_id, func.sum(ledger.c.amount).label("net"))
        .where(ledger.c.account_id == account_id, ledger.c.kind != "adjustment")
        .group_by(ledger.c.conversation_id)
        .subquery()
    )
    listed = (
        select(sessions.c.conversation_id, net.c.net, sessions.c.cost)
        .outerjoin(net, net.c.conversation_id == sessions.c.conversation_id)
        .where(sessions.c.account_id == account_id)
    )
    with database.begin() as connection:
        rows = connection.execute(listed).all()
    assert all(row.net == row.cost for row in rows)
    return {row.conversation_id: row.net for row in rows}


def printed(platform: Platform, customer: Customer) -> list[dict[str, Any]]:
    """The statements of the year, once they are closed, in order; without what says whose they are."""
    now = datetime.now(UTC)
    closed = closing.close(platform.database, customer.id, date(year.YEAR, 12, 1), actor="cli", now=now)
    assert len({one.number for one in closed}) == 12
    bodies = []
    with platform.database.begin() as connection:
        for number in range(1, 13):
            statement = statements.of_month(connection, customer.id, date(year.YEAR, number, 1), now=now)
            assert statement.state == "closed"
            bodies.append(statement.body)
        cards = rate_cards.of_account(connection, account_id=customer.id)
    named = {card.id: str(card.per_minute) for card in cards}
    for body in bodies:
        # How often a call was corrected on its way is in the ledger, and no part of what is owed.
        for name in ("number", "accountId", "accountName", "ledger"):
            del body[name]
        for line in (*body["lines"], *body["monthPrices"]):
            line["rateCardId"] = named[line["rateCardId"]]
            line["templateId"] = line.get("templateId") and "a template"
        body["lines"].sort(key=str)
    return bodies


# Twenty thousand webhooks, on a machine that has other tests to run.
@pytest.mark.timeout(900)
def test_a_year_of_calls_costs_what_arithmetic_says(platform: Platform) -> None:
    """Each call to the last decimal, and each month's statement; in any order of arrival the same."""
    calls = list(year.calls())
    amounts = {
        call.conversation_id: None if call.ms is None else year.cost(call.ms, year.price_of(call)) for call in calls
    }
    expected = year.months(calls)
    found = {}
    for arrival in (in_order, shuffled):
        customer, inlets = customer_of(platform, arrival.__name__)
        platform.tell(inlets, arrival(calls, arrival.__name__))
        assert charged(platform.database, customer.id) == amounts
        found[arrival] = printed(platform, customer)
    for number, body in enumerate(found[in_order], start=1):
        month = expected[number]
        assert Decimal(body["subtotal"]) == month.subtotal
        assert Decimal(body["total"]) == month.total
        assert Decimal(body["subtotal"]) + Decimal(body["rounding"]) == month.total
        assert body["billedSeconds"] == month.billed_seconds
        assert sum(Decimal(line["amount"]) for line in body["lines"]) == month.charged
        assert sum(Decimal(price["amount"]) for price in body["monthPrices"]) == month.adjustment
        assert (body["sessions"], sum(one["sessions"] for one in body["unrated"])) == (
            month.sessions - month.unrated,
            month.unrated,
        )
    assert found[shuffled] == found[in_order]


def test_what_is_told_after_the_close_is_in_the_next_statement(platform: Platform) -> None:
    """Half of a quarter's calls come when its months are closed: together they cost what the quarter costs."""
    calls = [call for call in year.calls() if call.month in {6, 7, 8}]
    early, late = calls[::2], calls[1::2]
    customer, inlets = customer_of(platform, "late")
    now = datetime.now(UTC)
    platform.tell(inlets, in_order(early, "late"))
    closing.close(platform.database, customer.id, date(year.YEAR, 8, 1), actor="cli", now=now)
    platform.tell(inlets, shuffled(late, "late"))
    closing.close(platform.database, customer.id, date(year.YEAR, 9, 1), actor="cli", now=now)
    with platform.database.begin() as connection:
        months = [statements.of_month(connection, customer.id, date(year.YEAR, n, 1), now=now) for n in (6, 7, 8, 9)]
    expected = year.months(calls)
    assert sum(Decimal(one.body["subtotal"]) for one in months) == sum(one.subtotal for one in expected.values())
    *before, after = months
    numbers = {one.number for one in before}
    assert {line["class"] for line in after.body["lines"]} == {"Correction"}
    assert {line["reference"] for line in (*after.body["lines"], *after.body["monthPrices"])} == numbers
