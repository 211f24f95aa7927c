"""Charges on their way to Stripe, Lago and OpenMeter: each row once, whatever ends in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import redis
from sqlalchemy import text

from billing import periods
from billing.exports.row import identifier
from billing.ledger import charge
from relay.calls import CallEvent, Ending, Facts, derived_session_id
from relay.directory import Mirror
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import ExportAccess, Settings
from relay.store import accounts, charges, exports, rate_cards
from relay.store.charges import Charge
from relay.store.database import Database
from relay.store.exports import UNKNOWN_OUTCOME, Claimed
from relay.telemetry import logs
from tests.fakes.lago import FakeLago
from tests.fakes.metering import FakeMetering
from tests.fakes.openmeter import FakeOpenMeter
from tests.fakes.server import DROPPED
from tests.fakes.stripe import FakeStripe
from tests.waiting import eventually
from workers.destinations import Destination, Lago, OpenMeter, Stripe
from workers.export import LEASE, ExportLane, count_exports, export_crews

NAMES = ("stripe", "lago", "openmeter")
START_MS = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000)


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeMetering]]:
    """The billing systems."""
    with FakeStripe() as stripe, FakeLago() as lago, FakeOpenMeter() as openmeter:
        yield {"stripe": stripe, "lago": lago, "openmeter": openmeter}


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What an operator is told of."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(logs, "alarm", lambda event, **fields: told.append({"event": event} | fields))
    return told


KINDS: dict[str, Callable[[ExportAccess], Destination]] = {"stripe": Stripe, "lago": Lago, "openmeter": OpenMeter}


def destination(fake: FakeMetering, name: str, *, key: str | None = None) -> Destination:
    """A destination that is a fake, with its key or another."""
    return KINDS[name](ExportAccess(base_url=fake.url, api_key=key or fake.key, label="call_seconds"))


@dataclass(slots=True)
class Shop:
    """An account at 0.10 USD a minute whose charges are sent somewhere, and a lane whose clock is `now`."""

    database: Database
    account_id: str
    provisioning: Provisioning
    now: list[float] = field(default_factory=lambda: [0.0])

    def send_to(self, name: str, customer: str = "cus_1") -> None:
        self.provisioning.put_export(account_id=self.account_id, destination=name, customer=customer)

    def call(self, number: int = 1, *, seconds: int = 91, livemode: bool = True, accepted: int = 0) -> None:
        write(self.database, self.account_id, number, seconds=seconds, livemode=livemode, accepted=accepted)

    def lane(self, fake: FakeMetering, name: str) -> ExportLane:
        return ExportLane(destination(fake, name), self.database, clock=lambda: self.now[0])

    def run(self, lane: ExportLane) -> None:
        """Until nothing is left that is due now."""
        while lane.step():
            pass

    def later(self) -> None:
        """Make everything due that waits for its next attempt, and every pause over."""
        self.now[0] += 3_600
        self._change("next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")

    def age(self, duration: str) -> None:
        """Make what was sent, sent longer ago."""
        self._change(f"sent_at = sent_at - interval '{duration}'")

    def _change(self, change: str) -> None:
        with self.database.begin() as connection:
            connection.execute(text(f"UPDATE exports SET {change}"))

    def queue(self, name: str | None = None) -> list[Any]:
        with self.database.begin() as connection:
            rows = connection.execute(text("SELECT * FROM exports ORDER BY ledger_id")).all()
        return [row for row in rows if name in (None, row.destination)]

    def ledger(self) -> list[Charge]:
        with self.database.begin() as connection:
            return charges.page(connection, account_id=self.account_id)[::-1]


def write(
    database: Database, account_id: str, number: int, *, seconds: int, livemode: bool = True, accepted: int = 0
) -> None:
    """Charge the end of a call."""
    call = CallEvent(
        provider="retell",
        kind="call_ended" if accepted == 0 else "call_analyzed",
        event_class="event",
        conversation_id=f"call_{number}",
        dedupe=("call_ended", f"call_{number}"),
        livemode=livemode,
        ending=Ending(status="completed", duration_seconds=str(seconds), started_at_ms=START_MS),
    )
    facts = Facts(
        event_id="evt_1",
        account_id=account_id,
        call=call,
        session_id=derived_session_id(account_id, "retell", f"call_{number}"),
        accepted_at_ms=START_MS + accepted,
    )
    with database.begin() as connection:
        charge(connection, [facts])


@pytest.fixture
def shop(database: Database, provisioning: Provisioning) -> Shop:
    """An account that nothing is sent of yet."""
    return Shop(database, an_account(database), provisioning)


def an_account(database: Database) -> str:
    with database.begin() as connection:
        account = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account, per_minute=Decimal("0.10"))
    return account


def sent(fake: FakeMetering) -> list[str]:
    """The identifiers of all that a fake was sent, in order and as often as it was."""
    found: list[str] = []
    for seen in fake.requests:
        if isinstance(seen.body, str):
            found += [part.partition("=")[2] for part in seen.body.split("&") if part.startswith("identifier=")]
        else:
            events = seen.body["events"] if isinstance(seen.body, dict) else seen.body
            found += [event.get("transaction_id") or event["id"] for event in events]
    return [one.replace("%2F", "/") for one in found]


# Sending


@pytest.mark.parametrize("name", NAMES)
def test_a_charge_its_correction_and_its_reversal_reach_a_destination(
    shop: Shop, fakes: dict[str, FakeMetering], name: str
) -> None:
    """Each row of the ledger once, under its key; together they are what the account pays."""
    shop.send_to(name)
    shop.call(seconds=91)
    shop.call(seconds=61, accepted=1)
    lane = shop.lane(fakes[name], name)
    shop.run(lane)

    rows = shop.ledger()
    assert [row.kind for row in rows] == ["charge", "reversal", "charge"]
    events = fakes[name].events
    assert set(events) == {identifier(row) for row in rows}
    assert len(sent(fakes[name])) == 3
    seconds = {
        "stripe": [int(one.get("payload[value]", 0)) for one in events.values()],
        "lago": [one["properties"]["billed_seconds"] for one in events.values() if "properties" in one],
        "openmeter": [one["data"]["billed_seconds"] for one in events.values() if "data" in one],
    }[name]
    assert sorted(seconds) == [-91, 61, 91]
    assert shop.queue() == []
    shop.run(lane)
    assert len(sent(fakes[name])) == 3


def test_a_call_that_is_only_a_test_is_sent_nowhere(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """It is in no ledger, so nothing is queued; a live one beside it is."""
    shop.send_to("lago")
    shop.call(1, livemode=False)
    assert shop.queue() == []
    shop.call(2)
    shop.run(shop.lane(fakes["lago"], "lago"))
    assert [key.split("/")[2] for key in fakes["lago"].events] == ["call_2"]


def test_only_accounts_with_a_name_at_a_destination_are_sent_there(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """And only there."""
    shop.send_to("lago")
    other = an_account(shop.database)
    write(shop.database, other, 1, seconds=60)
    shop.call()
    assert [(row.destination, row.account_id) for row in shop.queue()] == [("lago", shop.account_id)]


def test_a_name_that_was_changed_holds_for_what_waits_and_one_that_was_taken_back_for_nothing(
    shop: Shop, fakes: dict[str, FakeMetering]
) -> None:
    """Nothing goes to a customer that is not the account any more."""
    lane = shop.lane(fakes["lago"], "lago")
    shop.send_to("lago", "sub_old")
    shop.call(1)
    shop.send_to("lago", "sub_new")
    shop.run(lane)
    assert [event["external_subscription_id"] for event in fakes["lago"].events.values()] == ["sub_new"]
    shop.call(2)
    assert shop.provisioning.remove_export(account_id=shop.account_id, destination="lago") == 1
    shop.run(lane)
    assert len(fakes["lago"].requests) == 1


def test_stripe_gets_one_call_at_a_time_for_each_customer(
    shop: Shop, fakes: dict[str, FakeMetering], database: Database
) -> None:
    """And several customers' at once, in the order of the ledger."""
    stripe = fakes["stripe"]
    assert isinstance(stripe, FakeStripe)
    stripe.slowness = 0.01
    others = [an_account(database) for _ in range(3)]
    for number, account_id in enumerate([shop.account_id, *others]):
        shop.provisioning.put_export(account_id=account_id, destination="stripe", customer=f"cus_{number}")
        for call in range(5):
            write(database, account_id, call, seconds=60)
    shop.run(shop.lane(stripe, "stripe"))
    assert len(stripe.events) == 20
    assert set(stripe.busiest.values()) == {1}
    mine = [name for name in sent(stripe) if name.startswith(shop.account_id)]
    assert mine == [identifier(row) for row in shop.ledger()]


# What goes wrong


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_between_sending_and_settling_sends_the_same_again(
    shop: Shop, fakes: dict[str, FakeMetering], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The destination sees the same identifiers twice and nothing else, and has each once."""
    shop.send_to(name)
    for number in range(3):
        shop.call(number)
    lane = shop.lane(fakes[name], name)

    class KilledError(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(exports, "remove", killed)
        with pytest.raises(KilledError):
            lane.step()
    another = shop.lane(fakes[name], name)
    assert not another.step(), "before its lease is over, nobody else sends it"
    assert len(sent(fakes[name])) == 3
    shop.later()
    shop.run(another)

    keys = [identifier(row) for row in shop.ledger()]
    assert sorted(sent(fakes[name])) == sorted(keys * 2)
    assert sorted(fakes[name].events) == sorted(keys)
    assert shop.queue() == []


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_was_lost_counts_nothing_twice(shop: Shop, fakes: dict[str, FakeMetering], name: str) -> None:
    """What the destination took without saying so, it takes for known the next time."""
    shop.send_to(name)
    shop.call()
    fakes[name].lose_next()
    lane = shop.lane(fakes[name], name)
    shop.run(lane)
    (row,) = shop.queue()
    assert (row.attempts, row.code) == (1, "truncated")
    assert row.sent_at is not None
    shop.later()
    shop.run(lane)
    assert shop.queue() == []
    assert len(fakes[name].events) == 1
    assert len(sent(fakes[name])) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_destination_that_is_busy_gets_its_rows_when_it_asked_for_them(
    shop: Shop, fakes: dict[str, FakeMetering], name: str, alarms: list[dict[str, Any]]
) -> None:
    """After Retry-After and not before; what was surely not taken is not held for sent."""
    shop.send_to(name)
    shop.call()
    fakes[name].fail_next(429, retry_after=90)
    lane = shop.lane(fakes[name], name)
    shop.run(lane)
    (row,) = shop.queue()
    with shop.database.begin() as connection:
        wait = connection.execute(text("SELECT next_attempt_at - now() FROM exports")).scalar_one()
    assert timedelta(seconds=80) < wait <= timedelta(seconds=90)
    assert (row.code, row.sent_at) == ("http_429", None)
    shop.call(2)
    shop.now[0] += 89
    shop.run(lane)
    assert len(fakes[name].requests) == 1
    shop.later()
    shop.run(lane)
    assert shop.queue() == []
    assert len(fakes[name].events) == 2
    assert alarms == []


@pytest.mark.parametrize("name", NAMES)
def test_one_row_that_is_refused_stands_alone(
    shop: Shop, fakes: dict[str, FakeMetering], name: str, alarms: list[dict[str, Any]]
) -> None:
    """The others of its batch are taken; it is given up at once, with a code and an alarm, until an operator asks."""
    other = an_account(shop.database)
    shop.send_to(name)
    shop.provisioning.put_export(account_id=other, destination=name, customer="nobody")
    fakes[name].strangers.add("nobody")
    for number in range(4):
        shop.call(number)
    write(shop.database, other, 9, seconds=60)
    shop.call(5)
    lane = shop.lane(fakes[name], name)
    shop.run(lane)
    assert len(fakes[name].events) == 5
    (row,) = shop.queue()
    code = "refused_422" if name == "lago" else "refused_400"
    assert (row.account_id, row.code, row.next_attempt_at) == (other, code, None)
    assert alarms == [{"event": "export_dead", "destination": name, "account_id": other, "code": code, "count": 1}]

    fakes[name].strangers.clear()
    (again,) = shop.provisioning.retry_exports(destination=name)
    assert (again.account_id, again.count) == (other, 1)
    shop.run(lane)
    assert shop.queue() == []
    assert len(fakes[name].events) == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_is_refused_gives_nothing_up(
    shop: Shop, fakes: dict[str, FakeMetering], name: str, alarms: list[dict[str, Any]]
) -> None:
    """It raises an alarm, and what waited goes when the key is right."""
    shop.send_to(name)
    shop.call()
    right, fakes[name].key = fakes[name].key, "another"
    lane = ExportLane(destination(fakes[name], name, key=right), shop.database, clock=lambda: shop.now[0])
    shop.run(lane)
    assert [row.code for row in shop.queue()] == ["http_401"]
    assert alarms == [{"event": "export_misdirected", "destination": name, "code": "http_401", "count": 1}]
    fakes[name].key = right
    shop.later()
    shop.run(lane)
    assert shop.queue() == []


def test_a_destination_that_is_away_keeps_none_of_the_others_waiting(
    shop: Shop, fakes: dict[str, FakeMetering]
) -> None:
    """Each has its own lane and its own queue."""
    for name in NAMES:
        shop.send_to(name)
    shop.call()
    fakes["lago"].fail_next(DROPPED, 100)
    lanes = {name: shop.lane(fakes[name], name) for name in NAMES}
    for name in NAMES:
        shop.run(lanes[name])
    assert [row.destination for row in shop.queue()] == ["lago"]
    assert [len(fakes[name].events) for name in NAMES] == [1, 0, 1]


def test_a_row_is_given_up_when_its_attempts_are_used_up(
    shop: Shop, fakes: dict[str, FakeMetering], alarms: list[dict[str, Any]]
) -> None:
    """Ten of them, on the schedule of deliveries; nothing else is lost by it."""
    shop.send_to("lago")
    shop.call()
    fakes["lago"].fail_next(429, 100)
    lane = shop.lane(fakes["lago"], "lago")
    nexts = []
    for _ in range(10):
        with shop.database.begin() as connection:
            before = connection.execute(text("SELECT now()")).scalar_one()
        shop.run(lane)
        with shop.database.begin() as connection:
            nexts.append((before, *connection.execute(text("SELECT next_attempt_at, now() FROM exports")).one()))
        shop.later()
    assert nexts[-1][1] is None
    for number, nominal in ((0, timedelta(seconds=5)), (7, timedelta(hours=20))):
        before, at, after = nexts[number]
        # The schedule with its jitter, from some moment of the attempt.
        assert before + 0.8 * nominal <= at <= after + 1.2 * nominal
    assert len(fakes["lago"].requests) == 10
    assert [alarm["code"] for alarm in alarms] == ["http_429"]


@pytest.mark.parametrize(("name", "is_sent"), [("stripe", False), ("openmeter", False), ("lago", True)])
def test_what_may_be_there_already_is_not_sent_to_who_has_forgotten_it(
    shop: Shop, fakes: dict[str, FakeMetering], name: str, is_sent: bool, alarms: list[dict[str, Any]]
) -> None:
    """Stripe and OpenMeter know identifiers for a day: after that only an operator can know whether it was counted."""
    shop.send_to(name)
    shop.call()
    fakes[name].fail_next(500)
    lane = shop.lane(fakes[name], name)
    shop.run(lane)
    shop.age("25 hours")
    shop.later()
    shop.run(lane)
    assert bool(fakes[name].events) is is_sent
    if is_sent:
        return
    assert [row.code for row in shop.queue()] == [UNKNOWN_OUTCOME]
    assert [alarm["code"] for alarm in alarms] == [UNKNOWN_OUTCOME]
    assert shop.provisioning.retry_exports(destination=name) == []
    assert [one.count for one in shop.provisioning.retry_exports(code=UNKNOWN_OUTCOME)] == [1]
    shop.run(lane)
    assert len(fakes[name].events) == 1


def test_what_is_too_old_for_stripe_is_not_sent(
    shop: Shop, fakes: dict[str, FakeMetering], alarms: list[dict[str, Any]]
) -> None:
    """It is given up at once, and can be dropped."""
    shop.send_to("stripe")
    shop.call()
    in_40_days = Stripe(
        ExportAccess(base_url=fakes["stripe"].url, api_key=fakes["stripe"].key),
        clock=lambda: datetime.now(UTC) + timedelta(days=40),
    )
    shop.run(ExportLane(in_40_days, shop.database))
    assert fakes["stripe"].requests == []
    assert [alarm["code"] for alarm in alarms] == ["too_old"]
    assert [one.count for one in shop.provisioning.drop_exports(code="too_old")] == [1]
    assert shop.queue() == []


def test_a_row_that_moves_no_sum_is_not_sent_to_stripe(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """A call of 0 s costs nothing."""
    shop.send_to("stripe")
    shop.call(seconds=0)
    shop.run(shop.lane(fakes["stripe"], "stripe"))
    assert (fakes["stripe"].requests, shop.queue()) == ([], [])


def test_what_was_not_begun_when_a_worker_stops_waits_for_another(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """At once, and without an attempt less."""
    for name in NAMES:
        shop.send_to(name)
    shop.call()
    for name in NAMES:
        stopping = ExportLane(destination(fakes[name], name), shop.database, is_stopping=lambda: True)
        stopping.step()
    assert {(row.attempts, row.sent_at) for row in shop.queue()} == {(0, None)}
    for name in NAMES:
        shop.run(shop.lane(fakes[name], name))
    assert shop.queue() == []


# Two workers


class Slow:
    """A destination that takes what it is given when it is told to, and remembers who gave it."""

    name = "lago"
    batch = 10

    def __init__(self, inner: Destination) -> None:
        self._inner = inner
        self.given: list[int] = []
        self.may_go = threading.Event()
        self.has_begun = threading.Event()

    def send(self, rows: Sequence[Claimed], *, go_on: Any) -> Any:
        self.given += [row.charge.id for row in rows]
        self.has_begun.set()
        assert self.may_go.wait(10)
        return self._inner.send(rows, go_on=go_on)


def test_two_workers_never_send_a_row_at_once(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """What one has claimed the other passes over, for as long as the lease."""
    shop.send_to("lago")
    for number in range(25):
        shop.call(number)
    first, second = (Slow(destination(fakes["lago"], "lago")) for _ in range(2))
    lane = ExportLane(first, shop.database)
    holder = threading.Thread(target=lane.step)
    holder.start()
    assert first.has_begun.wait(10)
    second.may_go.set()
    shop.run(ExportLane(second, shop.database))
    first.may_go.set()
    holder.join()
    assert not set(first.given) & set(second.given)
    assert (len(first.given), len(second.given)) == (10, 15)
    assert len(sent(fakes["lago"])) == len(set(sent(fakes["lago"]))) == 25
    assert shop.queue() == []


def test_two_workers_that_look_at_once_find_different_rows(shop: Shop) -> None:
    """And neither waits for the other."""
    shop.send_to("lago")
    for number in range(4):
        shop.call(number)
    with shop.database.begin() as first, shop.database.begin() as second:
        claims = [exports.claim(one, "lago", most=3, lease=LEASE) for one in (first, second)]
    assert [len(claim) for claim in claims] == [3, 1]
    assert len({one.charge.id for claim in claims for one in claim}) == 4


def test_who_was_too_slow_does_not_undo_what_the_next_one_did(shop: Shop) -> None:
    """A row that another process has claimed since is that one's to settle."""
    shop.send_to("lago")
    shop.call()
    with shop.database.begin() as connection:
        (slow,) = exports.claim(connection, "lago", most=10, lease=LEASE)
    shop.later()
    with shop.database.begin() as connection:
        (quick,) = exports.claim(connection, "lago", most=10, lease=LEASE)
    late = exports.Settled(
        ledger_id=slow.charge.id, attempt=slow.attempt, wait_seconds=None, code="timeout", sent_at=None
    )
    with shop.database.begin() as connection:
        exports.settle(connection, "lago", [late])
    (row,) = shop.queue()
    assert (quick.attempt, row.attempts, row.code) == (2, 2, None)
    assert row.next_attempt_at is not None
    assert row.sent_at == slow.claimed_at


# Older rows


def test_older_rows_are_queued_once(shop: Shop, fakes: dict[str, FakeMetering]) -> None:
    """However often it is asked for, and together with what is queued by itself each row is sent once."""
    for number in range(3):
        shop.call(number)
    shop.send_to("lago")
    shop.call(3)
    lane = shop.lane(fakes["lago"], "lago")
    shop.run(lane)
    assert len(fakes["lago"].events) == 1

    def backfill(since: timedelta) -> int:
        return shop.provisioning.backfill_export(
            account_id=shop.account_id, destination="lago", since=datetime.now(UTC) - since
        )

    assert [backfill(timedelta(0)), backfill(timedelta(hours=1)), backfill(timedelta(days=30))] == [0, 3, 0]
    shop.run(lane)
    assert [backfill(timedelta(days=30)), shop.queue()] == [0, []]
    assert sorted(sent(fakes["lago"])) == sorted(identifier(row) for row in shop.ledger())


def test_naming_an_account_waits_for_who_posts_to_it(shop: Shop) -> None:
    """So that no row falls between what is queued by itself and what a backfill finds."""
    named = threading.Event()

    def name() -> None:
        shop.send_to("lago")
        named.set()

    with shop.database.begin() as connection:
        periods.share(connection, [shop.account_id])
        thread = threading.Thread(target=name)
        thread.start()
        waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        eventually(lambda: connection.execute(waits).scalar_one(), within_seconds=10, what="somebody waits")
        assert not named.is_set()
    thread.join()
    assert named.is_set()


def test_a_worker_has_a_lane_for_each_destination_that_is_configured(
    shop: Shop, settings: Settings, fakes: dict[str, FakeMetering]
) -> None:
    """With nothing configured it has none."""
    assert dict(export_crews(settings, shop.database)) == {}
    lago = ExportAccess(base_url=fakes["lago"].url, api_key=fakes["lago"].key, label="call_seconds")
    crews = dict(export_crews(replace(settings, lago=lago), shop.database))
    assert list(crews) == ["export.lago"]
    shop.send_to("lago")
    shop.call()
    for crew in crews.values():
        crew.start()
        crew.wake()
    eventually(lambda: shop.queue() == [], within_seconds=10, what="the charge is sent")
    for crew in crews.values():
        crew.stop()
        crew.join(10)
    assert len(fakes["lago"].events) == 1


# What is shown


def test_what_waits_is_counted_for_every_destination(
    shop: Shop, settings: Settings, redis_client: redis.Redis, fakes: dict[str, FakeMetering]
) -> None:
    """With the age of the oldest; also where nothing waits."""
    shop.send_to("lago")
    shop.send_to("stripe")
    shop.call()
    fakes["stripe"].strangers.add("cus_1")
    shop.run(shop.lane(fakes["stripe"], "stripe"))
    mirror = Mirror(redis_client, KeyRing(settings.keys))
    assert mirror.exports() == {}
    count_exports(mirror, shop.database)
    noted = mirror.exports()
    assert {name: (one.waiting, one.dead) for name, one in noted.items()} == {
        "lago": (1, 0),
        "openmeter": (0, 0),
        "stripe": (0, 1),
    }
    assert noted["lago"].oldest_age_seconds > 0
    assert noted["stripe"].oldest_age_seconds == 0
    assert msgspec.json.decode(msgspec.json.encode(noted["lago"]))["oldestAt"] is not None
