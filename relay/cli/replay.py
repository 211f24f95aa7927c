"""The command that sends ended deliveries again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from relay.agents.clients import Clients
from relay.cli.connecting import connected
from relay.cli.listing import account_filter
from relay.cli.moments import Past
from relay.cli.output import json_option, table
from relay.connections import redis_client
from relay.outbox import Outbox
from relay.refetch import Refetcher
from relay.replay import DONE, Answer, Replayed, Selection, audited
from relay.replay import replay as replay_selected
from relay.sealing import KeyRing
from relay.settings import Settings

# Often enough to see that it goes on, seldom enough to be read.
_PROGRESS_SECONDS: Final = 1.0
# Behind the number of those that were replayed.
_SUMMARY: Final = {
    Answer.REFETCHED: "with content fetched again",
    Answer.PENDING: "still pending",
    Answer.CONTENT_GONE: "without content",
    Answer.CONTENT_LOST: "with lost content",
    Answer.CONTENT_ERASED: "whose content was erased",
    Answer.ENDPOINT_DISABLED: "at disabled endpoints",
    Answer.ENDPOINT_GONE: "at endpoints that are gone",
    Answer.UNKNOWN: "not recorded yet",
    Answer.OVER_QUOTA: "over the quota",
    Answer.PROVIDER_FAILED: "refused by the provider",
    Answer.PROVIDER_UNAVAILABLE: "not answered by the provider",
    Answer.FAILED: "failed",
}
_HINTS: Final = {
    Answer.PENDING: "What is pending has not ended; it is tried by itself.",
    Answer.CONTENT_GONE: "Content is deleted once it is delivered, and when its retention ends. "
    "--refetch fetches it again where the provider keeps it and we may ask.",
    Answer.CONTENT_LOST: "What ended as content_lost can never be replayed with the same bytes: its content was gone "
    "before its time. --refetch fetches it again where the provider keeps it.",
    Answer.CONTENT_ERASED: "What a customer had erased is not fetched again.",
    Answer.ENDPOINT_DISABLED: "A disabled endpoint takes nothing: 'switchhook endpoint enable' it, then replay again.",
    Answer.ENDPOINT_GONE: "This endpoint answered 410, or does not exist any more: "
    "if it is there again, 'switchhook endpoint enable' it, then replay again.",
    Answer.UNKNOWN: "The records lag behind the outbox: try again in a moment.",
    Answer.OVER_QUOTA: "An account holds too many undelivered bytes: try again when its endpoints have answered.",
    Answer.PROVIDER_FAILED: "The provider's API refused: is its key still good?",
    Answer.PROVIDER_UNAVAILABLE: "The provider's API did not answer: try again later.",
    Answer.FAILED: "Redis refused some of these; nothing was changed for them.",
}


@click.command()
@click.argument("delivery", metavar="[EVENT]", required=False)
@click.option("--endpoint", "endpoint_id", metavar="ID", help="Only at this endpoint.")
@account_filter
@click.option(
    "--since",
    type=Past(),
    metavar="TIME",
    help="All that was accepted since: 30m, 1h30m, 2d, or ISO 8601, UTC without a zone.",
)
@click.option(
    "--status",
    type=click.Choice(["dead", "delivered", "content_lost"]),
    help="Only what ended so (with --since: dead; with an event: all).",
)
@click.option("--limit", type=click.IntRange(1), help="Replay at most so many, oldest first (default: all).")
@click.option("--refetch", is_flag=True, help="Fetch content that is gone from the provider again.")
@click.option("--dry-run", is_flag=True, help="Say what could be replayed and change nothing.")
@json_option
def replay(
    *,
    delivery: str | None,
    endpoint_id: str | None,
    account_id: str | None,
    since: datetime | None,
    status: Any,
    limit: int | None,
    refetch: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send ended deliveries again: those of one EVENT (evt_...), or all that died --since a time.

    The same bytes go out with the same webhook-id and the next attempt number, within a second. That needs the content,
    which is deleted once it is delivered everywhere and when its retention ends. With --refetch it is fetched from the
    provider again where it is kept there: not the same bytes then, and the delivery says so.
    """
    if (delivery is None) == (since is None):
        raise click.UsageError("name an event, or say --since when; not both")
    if refetch and dry_run:
        raise click.UsageError("--dry-run cannot say what a provider would still have; leave out --refetch")
    selection = Selection(
        event_id=delivery,
        endpoint_id=endpoint_id,
        account_id=account_id,
        status=status or (None if delivery else "dead"),
        since=since,
    )
    settings = Settings.from_environ()
    with connected(settings) as database, redis_client(settings) as client:
        outbox, ring = Outbox(client), KeyRing(settings.keys)
        refetcher = Refetcher(settings, database, outbox, ring, Clients(settings, database, ring))
        parts = replay_selected(
            database,
            outbox,
            selection,
            retention=settings.retention,
            most=limit,
            dry_run=dry_run,
            refetch=refetcher if refetch else None,
        )
        told = parts if dry_run else audited(database, parts, actor="cli")
        done = [item for part in _telling_progress(told) for item in part]
    counts = Counter(item.answer for item in done)
    if as_json:
        _show_json(done, counts, dry_run=dry_run)
    else:
        if delivery is not None or dry_run:
            _show_table(done)
        _show_summary(counts, dry_run=dry_run)
    if counts[Answer.FAILED] or (delivery is not None and not any(counts[answer] for answer in DONE)):
        raise click.exceptions.Exit(1)


def summary(counts: Counter[Answer], *, dry_run: bool) -> str:
    """One line: `12 replayed, 1 still pending, 3 without content`. Pure."""
    done = "could be replayed" if dry_run else "replayed"
    others = [f"{counts[answer]} {words}" for answer, words in _SUMMARY.items() if counts[answer]]
    return ", ".join([f"{counts[Answer.REPLAYED]} {done}", *others])


def _telling_progress(parts: Iterable[list[Replayed]]) -> Iterator[list[Replayed]]:
    """Say on stderr how far long work has come."""
    seen, replayed, told = 0, 0, time.monotonic()
    for part in parts:
        seen += len(part)
        replayed += sum(item.answer in DONE for item in part)
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            click.echo(f"{replayed} of {seen} so far", err=True)
        yield part


def _show_json(done: list[Replayed], counts: Counter[Answer], *, dry_run: bool) -> None:
    answer = {"dryRun": dry_run, "counts": dict(counts), "deliveries": done}
    click.echo(msgspec.json.encode(answer).decode())


def _show_table(done: list[Replayed]) -> None:
    rows = [(item.event_id, item.endpoint_id, item.status, item.attempts, item.answer) for item in done]
    table(rows, ("EVENT", "ENDPOINT", "WAS", "ATTEMPTS", "ANSWER"), empty="nothing to replay")


def _show_summary(counts: Counter[Answer], *, dry_run: bool) -> None:
    click.echo(summary(counts, dry_run=dry_run))
    for answer, hint in _HINTS.items():
        if counts[answer]:
            click.echo(hint)
