"""What `switchhook replay` is told, before it asks any server; and how it sums up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.cli.moments import parsed_past
from relay.cli.replay import summary
from relay.replay import Answer, refusal
from relay.store.deliveries import Candidate, DeliveryStatus
from relay.store.snapshot import EndpointState

NOW = datetime(2026, 2, 11, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        (" 1h ", NOW - timedelta(hours=1)),
        ("2d", NOW - timedelta(days=2)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("0s", NOW),
        ("2026-02-11T10:00:00Z", datetime(2026, 2, 11, 10, tzinfo=UTC)),
        ("2026-02-11T10:00:00+02:00", datetime(2026, 2, 11, 8, tzinfo=UTC)),
        ("2026-02-11T10:00:00", datetime(2026, 2, 11, 10, tzinfo=UTC)),  # UTC unless it says otherwise
        ("2026-02-11", datetime(2026, 2, 11, tzinfo=UTC)),
        ("20260211", datetime(2026, 2, 11, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_span_or_iso_8601(text: str, moment: datetime) -> None:
    """Both come out in UTC."""
    assert parsed_past(text, now=NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "1w", "-1h", "h", "1.5h", "1 h", "\u0661h", "1h\n2h",
        "9999999d", "999999d",  # before the first year
        "2026-13-01", "0001-01-01T00:00:00+14:00",
        "2026", "0", "-1", "1.5", "1999999999", "20260102105",  # no seconds since 1970, nor a day and 05:00
        "2026-02-11T12:05:01Z", "9999-12-31T23:59:59-14:00",  # still to come
    ],
)  # fmt: skip
def test_a_time_that_makes_no_sense_is_refused(text: str) -> None:
    """With the ways to write it; a time to come cannot be a beginning."""
    with pytest.raises(ValueError, match=r"^(give a time as 90s, .*|this time lies in the future)$"):
        parsed_past(text, now=NOW)


def test_the_command_says_so_in_one_line() -> None:
    """No traceback, exit code 2 as for every option that was written wrong, and nothing was asked of any server."""
    result = CliRunner().invoke(main, ["replay", "--since", "yesterday"], env={"REDIS_URL": "", "DATABASE_URL": ""})
    assert (result.exit_code, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]
    assert last == "Error: Invalid value for '--since': give a time as 90s, 30m, 1h30m, 2d or 2026-01-01T00:00:00Z"


@pytest.mark.parametrize("words", [[], ["evt_1", "--since", "1h"]])
def test_either_an_event_or_a_time_is_wanted(words: Sequence[str]) -> None:
    """Nothing at all would be everything; both would be unclear."""
    result = CliRunner().invoke(main, ["replay", *words])
    assert result.exit_code == 2
    assert "name an event, or say --since when" in result.stderr


def test_the_summary_names_what_there_is() -> None:
    """Replayed first, also when none was; then each other answer that was given."""
    counts = Counter({Answer.CONTENT_GONE: 3, Answer.PENDING: 1, Answer.REPLAYED: 12})
    assert summary(counts, dry_run=False) == "12 replayed, 1 still pending, 3 without content"
    assert summary(Counter(), dry_run=True) == "0 could be replayed"
    everything = summary(Counter(list(Answer)), dry_run=False)
    assert everything.count(", ") == len(Answer) - 1


@pytest.mark.parametrize(
    ("status", "state", "retention_hours", "answer"),
    [
        ("dead", "active", None, None),
        ("dead", "active", 2, None),
        ("pending", "active", None, None),  # the outbox knows better
        ("content_lost", "active", None, Answer.CONTENT_LOST),
        ("content_lost", None, None, Answer.CONTENT_LOST),
        ("dead", "disabled", None, Answer.ENDPOINT_DISABLED),
        ("dead", "gone", None, Answer.ENDPOINT_GONE),
        ("dead", None, None, Answer.ENDPOINT_GONE),  # deleted
        ("dead", "active", 0, Answer.CONTENT_GONE),
    ],
)
def test_some_can_never_be_replayed_now(
    status: DeliveryStatus, state: EndpointState | None, retention_hours: int | None, answer: Answer | None
) -> None:
    """By what is recorded of a delivery and its endpoint."""
    candidate = Candidate(
        event_id="evt_1",
        endpoint_id="ep_1",
        account_id="acc_1",
        status=status,
        attempts=1,
        accepted_at=NOW,
        endpoint_state=state,
        retention_hours=retention_hours,
        is_latest=True,
    )
    assert refusal(candidate) == answer
