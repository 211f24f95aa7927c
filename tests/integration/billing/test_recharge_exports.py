"""A ledger that is made again, and destinations that have its rows already: nothing is counted twice there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import text

from relay.directory import Mirror
from relay.outbox import Admission, Outbox, Unit
from relay.outbox.outcomes import encode_facts
from relay.queues import BILLING
from relay.sealing import KeyRing
from relay.settings import ExportAccess, Settings
from relay.store import exports
from relay.store.database import Database
from relay.store.exports import UNKNOWN_OUTCOME
from tests.fakes.lago import FakeLago
from tests.fakes.metering import FakeMetering
from tests.fakes.openmeter import FakeOpenMeter
from tests.fakes.stripe import FakeStripe
from tests.integration.billing.told import an_account, ended, tamper
from workers.charge import ChargeLane
from workers.destinations import Lago, OpenMeter, Stripe
from workers.export import ExportLane
from workers.recharge import prepare, recharge

HOUR = timedelta(hours=1)
KINDS = {"stripe": (FakeStripe, Stripe), "lago": (FakeLago, Lago), "openmeter": (FakeOpenMeter, OpenMeter)}


@dataclass
class Shop:
    """An account whose calls are charged, and sent to one destination."""

    client: redis.Redis
    settings: Settings
    database: Database
    account_id: str
    name: str
    fake: FakeMetering

    def charge(self, name: str, *, ago: timedelta, kind: str = "call_ended", seconds: str = "91") -> None:
        """A call whose end was accepted so long ago."""
        moment_ms = int((datetime.now(UTC) - ago).timestamp() * 1000)
        facts = ended(
            self.account_id,
            name,
            kind=kind,
            seconds=seconds,
            started_at_ms=moment_ms - 100_000,
            accepted_at_ms=moment_ms,
        )
        units = (Unit(BILLING, self.account_id),)
        admission = Admission(
            facts.event_id, self.account_id, encode_facts(facts), b"", 345_600_000, 345_600_000, 1 << 30, units
        )
        Outbox(self.client).accept([admission])
        ChargeLane(Outbox(self.client), self.database, keep=72 * HOUR).step()

    def send(self) -> None:
        """All that waits for the destination."""
        access = ExportAccess(base_url=self.fake.url, api_key=self.fake.key, label="call_seconds")
        lane = ExportLane(KINDS[self.name][1](access), self.database)
        while lane.step():
            pass

    def lose(self) -> None:
        """Have Postgres as it was before any call, and make the ledger again."""
        for table in ("ledger", "sessions", "usage_quarters"):
            tamper(self.database, f"DELETE FROM {table}")
        self.recharge()

    def recharge(self) -> None:
        """Charge again."""
        prepare(self.client, self.database, Mirror(self.client, KeyRing(self.settings.keys)), since=datetime.now(UTC))
        for _ in recharge(self.client, self.database, since=datetime.now(UTC) - HOUR):
            pass

    def queue(self) -> list[Any]:
        """What waits, or is dead."""
        with self.database.begin() as connection:
            return list(connection.execute(text("SELECT * FROM exports ORDER BY ledger_id")))


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, redis_client: redis.Redis, settings: Settings, database: Database
) -> Iterator[Shop]:
    """The shop of one destination."""
    account_id = an_account(database)
    with database.begin() as connection:
        exports.put_customer(connection, account_id=account_id, destination=request.param, customer="cus_1")
    with KINDS[request.param][0]() as fake:
        yield Shop(redis_client, settings, database, account_id, request.param, fake)


@pytest.mark.parametrize(("shop", "hours"), [("stripe", 1), ("openmeter", 1), ("lago", 48)], indirect=["shop"], ids=str)
def test_what_its_destination_still_knows_is_sent_again_and_counted_once(shop: Shop, hours: int) -> None:
    """A row that was perhaps never sent has to be, and its identifier makes that harmless."""
    shop.charge("call_1", ago=hours * HOUR)
    shop.send()
    shop.lose()
    assert len(shop.queue()) == 1
    shop.send()
    assert (shop.queue(), len(shop.fake.requests), len(shop.fake.events)) == ([], 2, 1)


@pytest.mark.parametrize("shop", ["stripe", "openmeter"], indirect=True)
def test_what_its_destination_has_forgotten_by_now_is_left_to_an_operator(shop: Shop) -> None:
    """It would count it twice. What was charged lately is sent all the same; what it corrects is not torn apart."""
    shop.charge("call_1", ago=48 * HOUR)
    shop.charge("call_2", ago=48 * HOUR)
    shop.charge("call_2", ago=HOUR, kind="call_analyzed", seconds="61")
    shop.send()
    had = set(shop.fake.events)
    assert len(had) == 4
    shop.fake.events.clear()
    shop.lose()
    shop.charge("call_3", ago=timedelta())
    shop.send()
    assert len(shop.fake.events) == 1
    assert not had & set(shop.fake.events)
    assert [(row.next_attempt_at, row.code) for row in shop.queue()] == [(None, UNKNOWN_OUTCOME)] * 4
    shop.recharge()
    shop.send()
    assert len(shop.fake.events) == 1
    with shop.database.begin() as connection:
        exports.take_up(connection, code=UNKNOWN_OUTCOME)
    shop.send()
    assert had < set(shop.fake.events)


@pytest.mark.parametrize("shop", ["stripe"], indirect=True)
def test_what_waited_at_the_backup_may_have_been_sent_since(shop: Shop) -> None:
    """The restored queue does not know; what was queued within a day is sent again."""
    for number, age in enumerate(("48 hours", "1 hour")):
        shop.charge(f"call_{number}", ago=HOUR)
        with shop.database.begin() as connection:
            old = text("UPDATE exports SET created_at = now() - CAST(:age AS interval) WHERE created_at > now() - :now")
            connection.execute(old, {"age": age, "now": HOUR / 2})
    shop.recharge()
    shop.send()
    assert len(shop.fake.events) == 1
    assert [(row.next_attempt_at, row.code) for row in shop.queue()] == [(None, UNKNOWN_OUTCOME)]
