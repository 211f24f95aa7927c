"""What could not be charged is counted, and the books are checked: noted for the metrics, and told by alarms."""

from __future__ import annotations

from decimal import Decimal

import pytest
import redis
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from billing import inspection
from relay.directory import Mirror
from relay.outbox import Outbox
from relay.scrape import Scrape
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from relay.store.reconciliations import Compared
from relay.telemetry import logs
from relay.telemetry.exchange import Exchange
from tests.integration.billing.told import an_account, ended, tamper, write
from workers import books

Alarms = list[tuple[str, dict[str, object]]]


@pytest.fixture
def mirror(redis_client: redis.Redis, settings: Settings) -> Mirror:
    """Where it is noted."""
    return Mirror(redis_client, KeyRing(settings.keys))


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> Alarms:
    """What an operator is told."""
    told: Alarms = []
    monkeypatch.setattr(logs, "alarm", lambda event, **fields: told.append((event, fields)))
    return told


def scraped(redis_client: redis.Redis, mirror: Mirror, settings: Settings) -> dict[tuple[str, ...], float]:
    """The samples of billing that web shows, by name and labels."""
    page = Scrape(settings, Exchange(redis_client), Outbox(redis_client), mirror).text().decode()
    return {
        (sample.name, *sorted(value for name, value in sample.labels.items() if name != "process")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("switchhook_billing")
    }


def test_what_is_not_charged_is_counted_until_it_is(
    database: Database, redis_client: redis.Redis, mirror: Mirror, settings: Settings
) -> None:
    """By reason, and 0 again afterwards."""
    account_id = an_account(database)
    write(database, ended(account_id, "a", seconds=None), ended(account_id, "b", seconds=None), ended(account_id, "c"))
    name = "switchhook_billing_unrated_sessions"
    assert books.count_unrated(mirror, database) == 2
    assert scraped(redis_client, mirror, settings)[name, "duration_missing"] == 2
    write(database, ended(account_id, "a"), ended(account_id, "b"))
    assert books.count_unrated(mirror, database) == 0
    assert scraped(redis_client, mirror, settings)[name, "duration_missing"] == 0


def test_a_compared_day_is_shown_while_its_lists_are_read(
    redis_client: redis.Redis, mirror: Mirror, settings: Settings
) -> None:
    """A cost that is not known is not shown as none, and a provider that is not asked any more not as it was."""
    day = Compared(
        begins=1_792_800_000,
        accounts=5,
        differing=2,
        sessions=90,
        provider_sessions=100,
        duration_seconds=5_400.5,
        provider_duration_seconds=6_000,
        provider_cost_usd=4.5,
        margin_usd=1.25,
    )
    mirror.note_compared({"retell": day, "agora": replace(day, provider_cost_usd=None, margin_usd=None)})
    shown = {key: value for key, value in scraped(redis_client, mirror, settings).items() if "_day_" in key[0]}
    name = "switchhook_billing_day"
    assert {key: value for key, value in shown.items() if "retell" in key} == {
        (f"{name}_begins_timestamp_seconds", "retell"): 1_792_800_000,
        (f"{name}_accounts", "retell", "same"): 3,
        (f"{name}_accounts", "different", "retell"): 2,
        (f"{name}_calls", "ours", "retell"): 90,
        (f"{name}_calls", "providers", "retell"): 100,
        (f"{name}_duration_seconds", "ours", "retell"): 5_400.5,
        (f"{name}_duration_seconds", "providers", "retell"): 6_000,
        (f"{name}_provider_cost_usd", "retell"): 4.5,
        (f"{name}_margin_usd", "retell"): 1.25,
    }
    assert len([key for key in shown if "agora" in key]) == 7
    mirror.note_compared({})
    assert [key for key in scraped(redis_client, mirror, settings) if "_day_" in key[0]] == []


def test_what_breaks_an_invariant_is_told_and_noted(
    database: Database, redis_client: redis.Redis, mirror: Mirror, settings: Settings, alarms: Alarms
) -> None:
    """By the hour what changed lately, once a day everything; sound books raise no alarm."""
    account_id = an_account(database)
    write(database, ended(account_id))
    assert books.check(redis_client, mirror, database) == 0
    samples = scraped(redis_client, mirror, settings)
    assert samples["switchhook_billing_invariant_violations", "everything", "session_sum"] == 0
    assert samples["switchhook_billing_checked_timestamp_seconds", "recent"] > 0
    assert alarms == []
    tamper(database, "UPDATE sessions SET cost = 9")
    assert books.check(redis_client, mirror, database) == 2
    samples = scraped(redis_client, mirror, settings)
    assert samples["switchhook_billing_invariant_violations", "recent", "session_sum"] == 1
    # A day has not passed.
    assert samples["switchhook_billing_invariant_violations", "everything", "session_sum"] == 0
    told = {"kind": "session_sum", "count": 1, "account_id": account_id}
    assert ("billing_invariant_broken", told) in alarms


def test_a_daily_check_that_failed_is_made_the_next_hour(
    database: Database, redis_client: redis.Redis, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not put off for another day."""

    def fail(_: Database, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(inspection, "everything", fail)
        with pytest.raises(RuntimeError):
            books.check(redis_client, mirror, database)
    assert mirror.checked("everything") is None
    books.check(redis_client, mirror, database)
    assert mirror.checked("everything") is not None


def test_a_call_that_is_charged_late_is_checked_although_it_is_old(
    database: Database, redis_client: redis.Redis, mirror: Mirror
) -> None:
    """Its rows are new."""
    account_id = an_account(database)
    write(database, ended(account_id, started_at_ms=1_700_000_000_000))
    books.check(redis_client, mirror, database)
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET cost = :cost"), {"cost": Decimal(5)})
    assert books.check(redis_client, mirror, database) == 2


def test_a_daily_check_whose_process_was_killed_is_made_the_next_hour(
    database: Database, redis_client: redis.Redis, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it that holds longer; a day is only over when a check was."""

    def killed(*_: object, **__: object) -> None:
        # A process that is killed tidies nothing up.
        monkeypatch.setattr(redis_client, "delete", lambda *_: 0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inspection, "everything", killed)
        with pytest.raises(KeyboardInterrupt):
            books.check(redis_client, mirror, database)
    assert 0 < redis_client.ttl(books._CHECKED) < 3_600
    redis_client.expire(books._CHECKED, 0)
    books.check(redis_client, mirror, database)
    assert mirror.checked("everything") is not None
    assert redis_client.ttl(books._CHECKED) > 23 * 3_600


@pytest.mark.parametrize("scope", ["recent", "everything"])
def test_a_check_ends_at_the_next_page_when_it_is_to(
    database: Database, redis_client: redis.Redis, mirror: Mirror, scope: str
) -> None:
    """What it has not looked at it says nothing of, and the next hour's is whole."""
    account_id = an_account(database)
    write(database, ended(account_id))
    asked: list[bool] = []

    def goes_on() -> bool:
        asked.append(mirror.checked("recent") is not None)
        return scope == "everything" and not asked[-1]

    assert books.check(redis_client, mirror, database, goes_on=goes_on) == 0
    assert asked[-1] is (scope == "everything")
    assert (mirror.checked("recent") is not None, mirror.checked("everything")) == (scope == "everything", None)
    books.check(redis_client, mirror, database)
    assert mirror.checked("everything") is not None
