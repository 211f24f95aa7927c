"""`switchhook replay` on real servers: which deliveries it takes, what it says, and how it ends."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from relay import replay as replay_module
from relay.calls import CallEvent, Facts
from relay.cli import main
from relay.cli import replay as command
from relay.outbox import Admission, Outbox, Room, Settlement, Unit, Verb, keys
from relay.outbox.outcomes import (
    AttemptOutcome,
    DeliveryStatus,
    OutcomeReader,
    decode_facts,
    encode_facts,
    encode_outcome,
)
from relay.replay import Answer, Selection, replay
from relay.settings import Settings
from relay.store import deliveries
from relay.store.database import Database
from relay.store.endpoints import Endpoint
from relay.store.tables import deliveries as delivery_rows
from tests.customers import Customer, Customers
from workers.record import RecordLane

HOUR_MS = 3_600_000
VERBS: dict[DeliveryStatus, Verb] = {
    "pending": Verb.RETRY, "delivered": Verb.DONE, "dead": Verb.DEAD, "content_lost": Verb.LOST,
}  # fmt: skip


class Past:
    """Makes deliveries that ended as a test wants them to have, in the outbox and in Postgres."""

    def __init__(self, settings: Settings, database: Database, client: redis.Redis, env: dict[str, str]) -> None:
        self.outbox = Outbox(client)
        self.customer: Customer = Customers(settings, database, client).create()
        self._lane = RecordLane(OutcomeReader(client, consumer="record"), database, on_gone=lambda *_: None)
        self._client = client
        self._env = env

    def endpoint(self, **options: Any) -> Endpoint:
        """An endpoint of the customer."""
        return self.customer.endpoint("http://127.0.0.1:9/", **options)

    def event(
        self, number: int, *ends: tuple[Endpoint, DeliveryStatus], hours_ago: int = 0, kind: str = "call_ended"
    ) -> str:
        """An event that ended so at these endpoints, after one attempt each; its id."""
        event_id = f"evt_{number}"
        call = CallEvent(provider="retell", kind=kind, event_class="event", conversation_id="c", dedupe=("c",))
        facts = Facts(
            event_id=event_id,
            account_id=self.customer.id,
            call=call,
            session_id=7,
            accepted_at_ms=self.now_ms() - hours_ago * HOUR_MS,
        )
        units = tuple(Unit("relay", endpoint.id) for endpoint, _ in ends)
        sizes = (96 * HOUR_MS, 95 * HOUR_MS, 10**9)
        self.outbox.accept([Admission(event_id, self.customer.id, encode_facts(facts), b"sealed", *sizes, units)])
        self._end({endpoint.id: status for endpoint, status in ends})
        self.record()
        return event_id

    def record(self) -> None:
        """Have Postgres catch up with the outbox."""
        while self._lane.step():
            pass

    def _end(self, statuses: dict[str, DeliveryStatus]) -> None:
        claims = self.outbox.claim("relay", Room(1000), alone=False, content=True).units
        settlements = [
            Settlement(
                claim,
                VERBS[status := statuses[claim.key]],
                delay_ms=HOUR_MS,
                attempted=True,
                outcome=encode_outcome(
                    AttemptOutcome(
                        event_id=claim.event_id,
                        endpoint_id=claim.key,
                        account_id=self.customer.id,
                        accepted_ms=decode_facts(
                            claim.facts, event_id=claim.event_id, account_id=claim.account_id
                        ).accepted_at_ms,
                        number=1,
                        status=status,
                    )
                ),
            )
            for claim in claims
        ]
        assert set(self.outbox.settle("relay", settlements)) == {"ok"}

    def now_ms(self) -> int:
        """Redis' clock."""
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def set_attempts(self, event_id: str, endpoint: Endpoint, attempts: int) -> None:
        """Have a dead delivery made more attempts than are recorded."""
        self._client.hset(keys.event(event_id), f"x:relay:{endpoint.id}", attempts)

    def shred(self, event_id: str) -> None:
        """Have the retention of an event's content end."""
        self._client.delete(keys.sealed(event_id))

    def waiting(self) -> list[tuple[str, str]]:
        """What is due now: events and endpoints, sorted."""
        claims = self.outbox.claim("relay", Room(1000), alone=False, content=False).units
        self.outbox.settle("relay", [Settlement(claim, Verb.RELEASE) for claim in claims])
        assert self.outbox.audit("relay").unaccounted == 0
        return sorted((claim.event_id, claim.key) for claim in claims)

    def run(self, *words: str, command: str = "replay", **env: str) -> Result:
        """Run `switchhook replay`, or another command, with these words."""
        return CliRunner().invoke(main, [command, *words], env=self._env | env)


@pytest.fixture
def past(settings: Settings, database: Database, redis_client: redis.Redis, switchhook_env: dict[str, str]) -> Past:
    """An account without a past."""
    return Past(settings, database, redis_client, switchhook_env)


def answers(result: Result) -> list[tuple[str, str]]:
    """Event and answer of each delivery that --json lists."""
    return [(item["eventId"], item["answer"]) for item in json.loads(result.stdout)["deliveries"]]


def test_one_delivery_is_named_by_event_and_endpoint(past: Past) -> None:
    """It alone goes again; the other one of its event stays as it ended."""
    first, second = past.endpoint(), past.endpoint()
    event_id = past.event(1, (first, "dead"), (second, "dead"))
    result = past.run(event_id, "--endpoint", second.id)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "1 replayed"
    assert past.waiting() == [(event_id, second.id)]


def test_an_event_alone_means_all_that_ended_of_it(past: Past) -> None:
    """Each is listed with what became of it; a delivered one too, for its content is still kept for another."""
    dead, delivered, pending = past.endpoint(), past.endpoint(), past.endpoint()
    event_id = past.event(1, (dead, "dead"), (delivered, "delivered"), (pending, "pending"))
    result = past.run(event_id)
    assert result.exit_code == 0
    assert "2 replayed, 1 still pending" in result.stdout.splitlines()
    rows = {line.split()[1]: line.split()[2:] for line in result.stdout.splitlines() if line.startswith(event_id)}
    assert rows == {
        dead.id: ["dead", "1", "replayed"],
        delivered.id: ["delivered", "1", "replayed"],
        pending.id: ["pending", "1", "pending"],
    }
    assert past.waiting() == sorted([(event_id, dead.id), (event_id, delivered.id)])


def test_an_event_can_be_narrowed_to_what_died_of_it(past: Past) -> None:
    """Who has it already gets no repeat."""
    dead, delivered = past.endpoint(), past.endpoint()
    event_id = past.event(1, (dead, "dead"), (delivered, "delivered"))
    assert past.run(event_id, "--status", "dead").exit_code == 0
    assert past.waiting() == [(event_id, dead.id)]


@pytest.mark.parametrize(
    ("status", "changes", "summary", "hint"),
    [
        ("delivered", {}, "0 replayed, 1 without content", "deleted once it is delivered"),
        ("pending", {}, "0 replayed, 1 still pending", "tried by itself"),
        ("content_lost", {}, "0 replayed, 1 with lost content", "can never be replayed"),
        ("dead", {"enabled": False}, "0 replayed, 1 at disabled endpoints", "switchhook endpoint enable"),
    ],
)
def test_a_named_delivery_that_cannot_be_replayed_fails_the_command(
    past: Past, status: DeliveryStatus, changes: dict[str, bool], summary: str, hint: str
) -> None:
    """Exit code 1, and a sentence that says why."""
    endpoint = past.endpoint()
    event_id = past.event(1, (endpoint, status))
    if changes:
        past.customer.set_state(endpoint.id, **changes)
    result = past.run(event_id)
    assert result.exit_code == 1
    assert summary in result.stdout.splitlines()
    assert hint in result.stdout
    assert past.waiting() == []


def test_an_endpoint_without_retention_has_nothing_to_replay(past: Past) -> None:
    """Even while another endpoint's delivery keeps the content: it was promised one attempt."""
    once, other = past.endpoint(retention_hours=0), past.endpoint()
    event_id = past.event(1, (once, "dead"), (other, "dead"))
    result = past.run(event_id, "--endpoint", once.id)
    assert (result.exit_code, past.waiting()) == (1, [])
    assert "1 without content" in result.stdout


def test_an_event_that_is_not_recorded_is_an_error(past: Past) -> None:
    """One line that says where to look; of another account it is not recorded either."""
    event_id = past.event(1, (past.endpoint(), "dead"))
    for words in (["evt_unheard"], [event_id, "--account", "acc_other"]):
        result = past.run(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no such delivery is recorded" in result.stderr
    assert past.waiting() == []


def test_all_that_died_since_a_time_goes_again(past: Past) -> None:
    """Nothing older, nothing that was delivered, and no failure if some have no content left."""
    endpoint, other = past.endpoint(), past.endpoint()
    past.event(1, (endpoint, "dead"), hours_ago=5)
    past.event(2, (endpoint, "dead"), hours_ago=2)
    past.event(3, (endpoint, "delivered"), (other, "dead"), hours_ago=1)
    past.event(4, (endpoint, "pending"))
    result = past.run("--since", "3h")
    assert (result.exit_code, result.stdout) == (0, "2 replayed\n")
    assert past.waiting() == [("evt_2", endpoint.id), ("evt_3", other.id)]


def test_what_is_to_go_can_be_narrowed(past: Past) -> None:
    """By endpoint, account and status, and to so many of the oldest."""
    endpoint, other = past.endpoint(), past.endpoint()
    for number in (1, 2, 3):
        past.event(number, (endpoint, "dead"), (other, "delivered"), hours_ago=10 - number)
    assert past.run("--since", "1d", "--account", "acc_other").stdout == "0 replayed\n"
    assert past.run("--since", "1d", "--endpoint", other.id).stdout == "0 replayed\n"
    assert past.run("--since", "1d", "--limit", "1").stdout == "1 replayed\n"
    assert past.waiting() == [("evt_1", endpoint.id)]
    assert past.run("--since", "1d", "--endpoint", other.id, "--status", "delivered").stdout == "3 replayed\n"


def test_a_limit_counts_what_goes(past: Past) -> None:
    """What cannot be replayed does not use it up, and is no failure where nothing was named."""
    endpoint = past.endpoint()
    past.shred(past.event(1, (endpoint, "dead"), hours_ago=3))
    for number in (2, 3):
        past.event(number, (endpoint, "dead"), hours_ago=1)
    result = past.run("--since", "1d", "--limit", "1")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "1 replayed, 1 without content")


def test_a_dry_run_says_what_would_go(past: Past) -> None:
    """As JSON too; nothing changes."""
    endpoint = past.endpoint()
    past.event(1, (endpoint, "dead"), hours_ago=2)
    past.event(2, (endpoint, "dead"), hours_ago=1)
    result = past.run("--since", "1d", "--dry-run", "--limit", "1")
    assert result.stdout.splitlines()[-1] == "1 could be replayed"
    result = past.run("--since", "1d", "--dry-run", "--json")
    assert answers(result) == [("evt_1", "replayed"), ("evt_2", "replayed")]
    assert json.loads(result.stdout)["dryRun"] is True
    assert past.waiting() == []


def test_json_is_one_line_of_camel_case(past: Past) -> None:
    """With the counts by answer and each delivery as it was before."""
    endpoint = past.endpoint()
    event_id = past.event(1, (endpoint, "dead"))
    result = past.run(event_id, "--json")
    [line] = result.stdout.splitlines()
    told = json.loads(line)
    assert told["counts"] == {"replayed": 1}
    [item] = told["deliveries"]
    assert item.pop("acceptedAt").endswith("Z")
    assert item == {
        "eventId": event_id, "endpointId": endpoint.id, "accountId": past.customer.id,
        "status": "dead", "attempts": 1, "answer": "replayed",
    }  # fmt: skip


def test_long_work_tells_how_far_it_is(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, and page by page: deliveries of one moment are taken once each, whatever the pages."""
    monkeypatch.setattr(replay_module, "READMIT_MOST", 2)
    monkeypatch.setattr(command, "_PROGRESS_SECONDS", 0)
    endpoints = [past.endpoint() for _ in range(5)]
    event_id = past.event(1, *((endpoint, "dead") for endpoint in endpoints))
    result = past.run("--since", "1h")
    assert result.stdout == "5 replayed\n"
    assert result.stderr.splitlines() == ["2 of 2 so far", "4 of 4 so far", "5 of 5 so far"]
    assert past.waiting() == sorted((event_id, endpoint.id) for endpoint in endpoints)


def test_what_was_interrupted_is_taken_up_by_the_next_run(
    past: Past, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are on their way are pending, the others follow: each goes once."""
    monkeypatch.setattr(replay_module, "READMIT_MOST", 2)
    endpoint = past.endpoint()
    for number in range(5):
        past.event(number, (endpoint, "dead"))
    selection = Selection(endpoint_id=endpoint.id, status="dead")
    interrupted = replay(database, past.outbox, selection, retention=settings.retention)
    assert len(next(interrupted)) == 2
    del interrupted
    assert past.run("--since", "1h").stdout.splitlines()[0] == "3 replayed, 2 still pending"
    assert len(past.waiting()) == 5


def test_an_event_that_came_again_is_replayed_by_its_newest_record(past: Past, database: Database) -> None:
    """An older record of the same event, from before its content was deleted, is history."""
    endpoint = past.endpoint()
    event_id = past.event(1, (endpoint, "dead"))
    with database.begin() as connection:
        [row] = connection.execute(delivery_rows.select()).mappings().all()
        week = timedelta(days=7)
        older = {**row, "day": row["day"] - week, "accepted_at": row["accepted_at"] - week}
        connection.execute(delivery_rows.insert().values(older))
    result = past.run("--since", "30d", "--json")
    assert answers(result) == [(event_id, Answer.REPLAYED)]
    [item] = json.loads(result.stdout)["deliveries"]
    assert item["acceptedAt"][:10] == row["day"].isoformat()


def test_attempts_that_are_not_recorded_yet_count(past: Past, database: Database) -> None:
    """The outbox knows of more than Postgres does: the number goes on from there, and is told to Postgres."""
    endpoint = past.endpoint()
    event_id = past.event(1, (endpoint, "dead"))
    past.set_attempts(event_id, endpoint, 4)
    assert past.run(event_id).exit_code == 0
    past.record()
    with database.begin() as connection:
        [row] = deliveries.page(connection, event_id=event_id)
    assert (row.status, row.attempts, row.code, row.settled_at) == ("pending", 4, None, None)
