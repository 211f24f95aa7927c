"""What was said is nowhere in the clear: in no file of Redis, Postgres or a process, whatever happens on the way.

One long run says a canary in everything that a provider, an agent or a customer's server can say it in, while things
fail on the way; then all that was written is scanned, before and after the processes have ended. That the scan would
have found it is shown by tests/integration/test_scan.py.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

import pytest
from sqlalchemy import text

from relay.demo.embedded import EmbeddedPostgres, Scratch, start_postgres
from relay.outbox import keys
from relay.providers import PROVIDERS
from relay.queues import KEY_PREFIX
from tests.echo import Echo, Manner, echoing
from tests.mishaps import (
    PATIENCE,
    answer,
    await_post,
    break_headers,
    change_workers,
    core_limits_of,
    served_recordings,
    set_up,
    speak,
)
from tests.planted import Canary
from tests.processes import ManagedProcess
from tests.scanner import Scanner
from tests.senders import ROUTES, Sent, another, malformed, webhooks
from tests.stack import METRICS_TOKEN, Stack, fresh_stack
from tests.waiting import eventually
from tests.written import Place, file_places, monitored, open_files, postgres_places, redis_places

DOCS: Final = Path(__file__).parents[2] / "docs"
# The long run takes a minute, and several on a slow machine.
pytestmark = pytest.mark.timeout(600)
RING: Final = secrets.token_hex(24)
MAX_BODY: Final = 1_000_000
# As unwise as a Postgres can be configured: every statement with its parameters, and the row that was refused.
TALKATIVE: Final = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_min_error_statement": "error",
    "log_error_verbosity": "verbose",
    "wal_compression": "pglz",
}
# Rows that Postgres refuses, in a text that quotes them: of a call that is charged, and of an attempt.
REFUSAL: Final = f"refused {secrets.token_hex(12)}"
REFUSALS: Final = f"""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '{REFUSAL}: %', NEW USING DETAIL = NEW::text, HINT = NEW::text; END $$;
    CREATE TRIGGER refused BEFORE INSERT ON ledger
        FOR EACH ROW WHEN (NEW.conversation_id = 'conv_full') EXECUTE FUNCTION refuse();
    CREATE TRIGGER refused BEFORE INSERT ON attempts
        FOR EACH ROW WHEN (NEW.http_status = 302) EXECUTE FUNCTION refuse();
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A system of its own, as talkative as it can be, with the places where it may write."""

    stack: Stack
    postgres: EmbeddedPostgres
    postgres_log: Path
    temporary: Path
    told: bytearray = field(repr=False)

    def written(self) -> Iterator[Place]:
        """Everything that was written anywhere until now."""
        yield from redis_places(self.stack.redis, self.stack.redis_server)
        with self.stack.database.begin() as connection:
            yield from postgres_places(connection, self.postgres)
        yield "Postgres' log", self.postgres_log.read_bytes()
        yield from file_places(self.stack.logs, self.temporary)
        yield "MONITOR", bytes(self.told)
        running = [process for process in self.stack.processes if process.is_running]
        yield from open_files(process.pid for process in running)
        if running:
            yield "metrics", self.stack.get("/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}).content


@dataclass(frozen=True, slots=True)
class Day:
    """What came of the long run: findings by place and canary, the answers to senders, and what ran."""

    sent: list[tuple[Sent, int, str]] = field(repr=False)
    echoes: Mapping[Manner, Echo]
    while_running: set[tuple[str, str]]
    once_ended: set[tuple[str, str]]
    in_answers: set[str]
    ran: list[ManagedProcess]
    told: bytes = field(repr=False)
    core_limits: set[tuple[int, int]]


@pytest.fixture(scope="module")
def scene(scratch: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Redis, Postgres and the settings of the processes; nothing runs yet."""
    logs, temporary = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("temporary")
    postgres = start_postgres(scratch, name="talkative", fsync=False)
    settings = {
        "LOG_LEVEL": "DEBUG",
        "SWITCHHOOK_KEYS": RING,
        "SWITCHHOOK_MAX_BODY": str(MAX_BODY),
        "TMPDIR": str(temporary),
    }
    with fresh_stack(scratch, postgres, logs=logs, settings=settings) as stack, monitored(stack.redis_server) as told:
        with stack.database.begin() as connection:
            connection.execute(text(REFUSALS))
            for name, value in TALKATIVE.items():
                connection.execute(text(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'"))
        stack.database.close()  # the next sessions are talkative
        yield Scene(stack, postgres, scratch.directory / "talkative.log", temporary, told)
    postgres.stop()


@pytest.fixture(scope="module")
def day(scene: Scene) -> Iterator[Day]:
    """Everything that can happen to content, once."""
    stack, canary = scene.stack, Canary()
    customer = stack.customers.create()
    with ExitStack() as exits:
        echoes = {manner: exits.enter_context(echoing(manner, canary.token)) for manner in get_args(Manner)}
        recordings = exits.enter_context(served_recordings(canary))
        sender = replace(set_up(stack, customer, echoes), recordings=recordings)
        scanner = Scanner([*canary.needles, *sender.secrets, RING, METRICS_TOKEN])
        _, worker, _ = stack.start("web", "worker", "beat")

        sent = [(one, *answer(stack, one)) for one in webhooks(sender, canary, most_bytes=MAX_BODY)]
        spoken = [speak(stack, line) for line in malformed(canary)]
        for manner, echo in echoes.items():
            await_post(echo, what=manner)
        for event in ("charge_refused", "outcome_refused", "recording_unmeasured"):
            worker.await_event(event, within_seconds=PATIENCE)
        eventually(
            lambda: any(one.provider == "canonical" and one.billed_seconds for one in stack.sessions(customer)),
            within_seconds=PATIENCE,
            what="a recording that was measured",
        )
        stack.redis.xadd(keys.OUTCOMES, {"o": b"\xc1 is no MessagePack"})
        worker.await_event("outcome_unreadable")
        break_headers(stack, customer, echoes["take"])
        stuck = exits.enter_context(echoing("hang", canary.token))
        later = [another(sender, canary, f"conv_later_{number}") for number in range(2)]
        change_workers(stack, customer, worker, stuck, later)

        while_running = scanner.found_in_all(scene.written())
        core_limits = {limit for process in stack.processes if process.is_running for limit in core_limits_of(process)}
        for process in stack.processes:
            process.close()
        once_ended = scanner.found_in_all(scene.written())
        # Who asks for context gets the customer's answer: that is what the route is for.
        answers = [body.encode() for one, status, body in sent if not (one.is_question and status == 200)]
        in_answers = scanner.found_in(b"\n".join([*answers, *spoken]))
        yield Day(
            sent, echoes, while_running, once_ended, in_answers, list(stack.processes), bytes(scene.told), core_limits
        )


def test_nothing_that_was_said_is_written_while_the_processes_run(day: Day) -> None:
    """Nor a secret: not in a file of Redis or Postgres, in a log, a metric, a message or a temporary file."""
    assert day.while_running == set()


def test_nothing_that_was_said_is_left_when_they_have_ended(day: Day) -> None:
    """Whatever is written at the end included."""
    assert day.once_ended == set()


def test_no_answer_to_a_sender_quotes_what_it_sent(day: Day) -> None:
    """Neither a refusal nor a receipt: what stands between the two may log answers."""
    assert day.in_answers == set()


def test_the_run_went_through_everything(day: Day) -> None:
    """Else the other tests would prove nothing: every route and refusal, every failure behind them."""
    documented = set(re.findall(r"^## `(POST /\S*webhook\S*)`$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert {one.route for one, _, _ in day.sent} == ROUTES >= documented
    assert [name for name in PROVIDERS if not any(f"/webhooks/{name}/" in one.url for one, _, _ in day.sent)] == []
    wrong = [(one.route, one.name, status, body) for one, status, body in day.sent if status not in one.statuses]
    assert wrong == []
    seen = {line["event"] for process in day.ran for line in process.events()}
    assert seen >= {"charge_refused", "outcome_refused", "outcome_unreadable", "dispatch_failed", "body_too_large"}
    assert seen >= {"recording_unmeasured"}
    assert KEY_PREFIX.encode() in day.told


def test_every_line_on_standard_output_is_json(day: Day) -> None:
    """From the first line to the last, with a time, a level and an event; standard error stays empty."""
    lines = [json.loads(line) for process in day.ran for line in process.stdout.read_text().splitlines()]
    assert {"worker_ready", "session_unrated", "worker_stopped"} <= {line["event"] for line in lines}
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert [process.stderr.read_text() for process in day.ran] == [""] * len(day.ran)
    assert sorted(process.wait() for process in day.ran) == [-9, 0, 0, 0, 0]


def test_no_process_turned_content_into_text(day: Day) -> None:
    """Where code tries to, Content refuses, and the refusal shows in the log by its name."""
    assert "ContentLeak" not in {line.get("error") for process in day.ran for line in process.events()}


def test_no_process_logs_the_text_of_an_error(day: Day) -> None:
    """Postgres told what it refused, row and all; a library's texts quote what it could not read."""
    assert [process.command for process in day.ran if REFUSAL in process.stdout.read_text()] == []


def test_no_process_may_leave_a_copy_of_its_memory(day: Day) -> None:
    """A core dump holds what was said, and the keys that open the rest."""
    assert day.core_limits == {(0, 0)}
