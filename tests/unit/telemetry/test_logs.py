"""Logs: one JSON object a line, with allowed fields only, and never the text of an error or a library."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from relay.content import Content
from relay.errors import NotFound
from relay.telemetry import logs, metrics
from relay.telemetry.redaction import ALLOWED_KEYS, MAX_CHARS, allowed

CANARY = "words-of-a-caller"


def configure(level: str, output: io.StringIO) -> None:
    """As a process does it, with `output` as its standard output."""
    with contextlib.redirect_stdout(output):
        logs.configure(level)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What would be on standard output."""
    root, ours = logging.getLogger(), logging.getLogger("switchhook")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    hooks = threading.excepthook, sys.excepthook, sys.unraisablehook
    output = io.StringIO()
    configure("DEBUG", output)
    yield output
    root.handlers[:], logging.raiseExceptions = before[0], before[3]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    threading.excepthook, sys.excepthook, sys.unraisablehook = hooks


def only(output: io.StringIO) -> dict[str, Any]:
    """The one line that was written."""
    (line,) = output.getvalue().splitlines()
    fields: dict[str, Any] = json.loads(line)
    return fields


# -- our own lines


@pytest.mark.parametrize(
    ("write", "level"),
    [(logs.debug, "debug"), (logs.info, "info"), (logs.warning, "warning"), (logs.alarm, "error")],
)
def test_writes_an_event_with_its_fields(lines: io.StringIO, write: Any, level: str) -> None:
    """A constant name and ids."""
    write("delivery_ended", event_id="evt_1", attempt=3, lane="relay")
    fields = only(lines)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {"level": level, "event": "delivery_ended", "event_id": "evt_1", "attempt": 3, "lane": "relay"}


def test_leaves_out_what_is_not_on_the_list(lines: io.StringIO) -> None:
    """Whatever it is called, and also if it is called like a part of the line."""
    logs.info("thing", body=CANARY, url=CANARY, transcript=CANARY, time=CANARY, level=CANARY, event_id="evt_1")
    assert CANARY not in lines.getvalue()
    assert set(only(lines)) == {"time", "level", "event", "event_id"}


def test_keeps_to_its_level(lines: io.StringIO) -> None:
    """And never says what a library says below a warning."""
    configure("WARNING", lines)
    logs.info("not this")
    logging.getLogger("some.library").info("nor this")
    assert lines.getvalue() == ""
    logs.warning("this")
    assert only(lines)["event"] == "this"


class _Verb(StrEnum):
    DONE = "done"


class _Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        ("acc_1", "acc_1"),
        (_Verb.DONE, "done"),
        (_Number.ONE, 1),
        ("x" * 1000, "x" * MAX_CHARS),
        (CANARY.encode(), "<bytes>"),
        ([CANARY], "<list>"),
        ({"a": CANARY}, "<dict>"),
        (Content(CANARY.encode()), "<Content>"),
        (ValueError(CANARY), "ValueError"),
        (NotFound(CANARY), "NotFound"),
        (object, "<type>"),
    ],
)
def test_shows_short_scalars_and_of_the_rest_their_type(value: object, shown: object) -> None:
    """An object could turn into anything when it is printed."""
    assert allowed({"reason": value}) == {"reason": shown}


def test_no_allowed_field_is_named_like_content() -> None:
    """Whoever adds one to the list has to think of another name."""
    words = ("body", "content", "payload", "transcript", "url", "header", "secret", "key_", "text", "message", "data")
    assert not [key for key in ALLOWED_KEYS if any(word in key for word in words)]


@pytest.mark.parametrize("trick", ["a\r\nb", "\x1b[31mred", "%s%n", "\u2028", "\x00", '"}{"', "\ud800"])
def test_an_id_stays_within_its_line(lines: io.StringIO, trick: str) -> None:
    """A sender chooses parts of paths: no second line, no terminal code."""
    logs.info("refused", source_id=trick)
    line = lines.getvalue()
    assert line.isascii()
    assert line[:-1].isprintable()
    assert only(lines)["source_id"] == trick


# -- errors


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError(CANARY), KeyError(CANARY), NotFound(CANARY), json.JSONDecodeError(CANARY, CANARY, 0)]
)
def test_tells_an_error_by_its_type_and_place_only(lines: io.StringIO, error: Exception) -> None:
    """Its text may quote what was being handled."""
    try:
        fail(error)
    except Exception as caught:
        logs.failure("thing_failed", caught, task="relay.kick")
    assert CANARY not in lines.getvalue()
    fields = only(lines)
    assert (fields["event"], fields["level"], fields["task"]) == ("thing_failed", "error", "relay.kick")
    assert fields["error"] == type(error).__name__
    name, _, line_number = fields["where"].partition(":")
    assert (name, line_number.isdigit()) == ("test_logs.py", True)


def test_an_error_that_was_never_raised_has_no_place(lines: io.StringIO) -> None:
    """And is told all the same."""
    logs.failure("thing_failed", ValueError(CANARY))
    assert only(lines)["where"] == "unknown"


def test_a_thread_that_fails_is_told_of_without_its_text(lines: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    """Python itself would print the whole traceback."""
    thread = threading.Thread(target=fail, args=(ValueError(CANARY),))
    thread.start()
    thread.join()
    assert (only(lines)["event"], only(lines)["error"]) == ("thread_failed", "ValueError")
    assert CANARY not in lines.getvalue() + capfd.readouterr().err


def test_a_thread_that_ends_itself_has_not_failed(lines: io.StringIO) -> None:
    """SystemExit is how libraries end theirs."""
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert lines.getvalue() == ""


@pytest.mark.parametrize("error", [ValueError(CANARY), UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY)])
def test_what_ends_the_process_is_told_of_without_its_text(
    lines: io.StringIO, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Python would print it; libcurl's binding has what a callback raises printed the same way."""
    try:
        fail(error)
    except Exception as caught:
        sys.excepthook(type(caught), caught, caught.__traceback__)
    assert (only(lines)["event"], only(lines)["error"]) == ("uncaught", type(error).__name__)
    assert CANARY not in lines.getvalue() + capfd.readouterr().err


def test_an_interrupt_is_no_error(lines: io.StringIO) -> None:
    """Ctrl-C ends a process in the usual way, and says nothing in the log."""
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert lines.getvalue() == ""


class _Unclosable:
    def __del__(self) -> None:
        raise ValueError(CANARY)


def test_what_cannot_be_raised_is_told_of_without_its_text(
    lines: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error in a destructor or in a callback of a C library."""
    made = _Unclosable()
    del made
    assert (only(lines)["event"], only(lines)["error"]) == ("uncaught", "ValueError")
    assert CANARY not in lines.getvalue() + capfd.readouterr().err


# -- what libraries say


def test_reduces_a_librarys_record_to_where_it_came_from(lines: io.StringIO) -> None:
    """kombu prints whole payloads, drivers print statements."""
    logging.getLogger("kombu.transport").error("cannot restore %r: %s", {"body": CANARY}, CANARY)
    fields = only(lines)
    assert CANARY not in lines.getvalue()
    assert (fields["event"], fields["logger"], fields["level"]) == ("library", "kombu.transport", "error")
    assert fields["where"].startswith("test_logs:")


def test_reduces_a_librarys_traceback_to_its_type(lines: io.StringIO) -> None:
    """Nor is its stack printed, or what is chained to it."""
    try:
        try:
            fail(ValueError(CANARY))
        except ValueError as inner:
            raise RuntimeError(CANARY) from inner
    except RuntimeError:
        logging.getLogger("celery.worker").exception("task %s raised", CANARY, stack_info=True)
    assert CANARY not in lines.getvalue()
    assert only(lines)["error"] == "RuntimeError"


def test_passes_on_what_the_server_says_of_itself(lines: io.StringIO) -> None:
    """That a worker started is no one's content."""
    logging.getLogger("_granian.workers").warning("Started worker-%d", 1)
    assert only(lines)["event"] == "Started worker-1"


def test_a_line_that_cannot_be_written_is_not_printed_elsewhere(
    lines: io.StringIO, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """logging's own complaint, on a full disk say, would quote the record with its arguments."""
    monkeypatch.setattr(lines, "write", lambda _: fail(OSError("no space left")))
    logging.getLogger("kombu").error("payload %s", CANARY)
    logs.info("thing", event_id="evt_1")
    assert capfd.readouterr().err == ""


def test_a_record_that_cannot_be_formatted_is_not_printed_elsewhere(
    lines: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong number of arguments in somebody's call."""
    logging.getLogger("_granian").warning("one %s two %s", *[CANARY])
    logging.getLogger("switchhook").warning(ValueError(CANARY))
    assert CANARY not in lines.getvalue() + capfd.readouterr().err


def test_configuring_twice_writes_once(lines: io.StringIO) -> None:
    """A process that is both web and worker, say."""
    configure("INFO", lines)
    logs.info("thing")
    assert only(lines)["event"] == "thing"


# -- metrics


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        ("delivered", "delivered"),
        ("unreachable", "unreachable"),
        ("timeout", "timeout"),
        ("http_500", "http_5xx"),
        ("http_599", "http_5xx"),
        ("http_404", "http_4xx"),
        ("http_999", "http_9xx"),
    ],
)
def test_attempts_are_counted_by_class(outcome: str, label: str) -> None:
    """A receiver that answers with every status makes no more than nine series."""
    labels = {"outcome": label}
    name = "switchhook_relay_delivery_attempts_total"
    before = metrics.REGISTRY.get_sample_value(name, labels) or 0
    metrics.record_attempt(outcome, 0.1)
    assert metrics.REGISTRY.get_sample_value(name, labels) == before + 1


def test_no_metric_has_a_label_that_grows() -> None:
    """Accounts, endpoints, events and URLs are for logs and tables."""
    families = [*metrics.REGISTRY.collect(), *metrics.SYSTEM.collect()]
    names = {name for metric in families for sample in metric.samples for name in sample.labels}
    assert names <= {
        "provider",
        "outcome",
        "lane",
        "state",
        "le",
        "currency",
        "reason",
        "result",
        "kind",
        "family",
        "status",
    }


def test_metrics_are_named_after_what_they_measure() -> None:
    """As the documentation promises."""
    allowed_prefixes = ("switchhook_relay_", "switchhook_billing_", "switchhook_unaccounted_events")
    families = [*metrics.REGISTRY.collect(), *metrics.SYSTEM.collect()]
    assert all(metric.name.startswith(allowed_prefixes) for metric in families)
    assert b"switchhook_relay_process_resident_memory_bytes" in metrics.exposition()
    assert b"switchhook_unaccounted_events" not in metrics.exposition()
    assert b"switchhook_unaccounted_events" in metrics.system_exposition(known=True)


def test_what_is_not_known_of_the_system_is_not_shown() -> None:
    """Without Redis the last values would be taken for those of now."""
    metrics.record_redis_up(False)
    samples = [line for line in metrics.system_exposition(known=False).splitlines() if not line.startswith(b"#")]
    assert samples == [b"switchhook_relay_redis_up 0.0"]


def test_a_lag_is_never_negative() -> None:
    """Clocks of two hosts disagree."""
    before = metrics.REGISTRY.get_sample_value("switchhook_relay_delivery_lag_seconds_sum") or 0
    metrics.record_lag(-5.0)
    assert metrics.REGISTRY.get_sample_value("switchhook_relay_delivery_lag_seconds_sum") == before
