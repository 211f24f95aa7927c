"""Postgres: whether it takes writes, and whether its schema is the one that this code expects."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from relay.doctor import transport
from relay.doctor.finding import Finding, fail, ok, warn
from relay.settings import Settings
from relay.store import partitions, server
from relay.store.migrating import current_revision, head_revision
from relay.store.server import ServerFacts

# Older ones get no fixes any more (PostgreSQL's versioning policy), and nothing here was tried with them.
_OLDEST: Final = 140_000
_VERIFYING: Final = frozenset({"verify-ca", "verify-full"})
# Beat makes fourteen days ahead every hour.
_DAYS_AHEAD: Final = 2


def examine(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Ask a Postgres that answers. Raises what Database raises."""
    facts = server.facts(connection)
    yield judged_version(facts)
    yield judged_writes(facts)
    yield judged_time_zone(facts)
    yield _transport(settings, facts)


def examine_schema(connection: Connection) -> Generator[Finding, None, bool]:
    """Revision and partitions; returns whether there is a schema to ask more of. Raises what Database raises."""
    revision = current_revision(connection)
    yield judged_revision(revision, head=head_revision())
    if revision is None:
        return False
    yield judged_partitions(partitions.missing(connection, datetime.now(UTC).date(), days_ahead=_DAYS_AHEAD))
    return True


def judged_version(facts: ServerFacts) -> Finding:
    """14 or newer."""
    if facts.version_number < _OLDEST:
        return warn("postgres: version", facts.version, "use 14 or newer: older ones are not maintained")
    return ok("postgres: version", facts.version)


def judged_writes(facts: ServerFacts) -> Finding:
    """A primary that is not read-only."""
    if facts.is_standby:
        return fail("postgres: writes", "a standby, which takes none", "give DATABASE_URL the primary")
    if facts.is_read_only:
        advice = "records and bills wait: see why default_transaction_read_only is on; a full disk is a usual reason"
        return fail("postgres: writes", "its transactions are read-only", advice)
    return ok("postgres: writes", "taken")


def judged_time_zone(facts: ServerFacts) -> Finding:
    """UTC, as our connections ask for."""
    if facts.time_zone.upper() not in ("UTC", "ETC/UTC"):
        advice = "something between us and Postgres drops connection options; set the role's timezone to UTC"
        return warn("postgres: time zone", facts.time_zone, advice)
    return ok("postgres: time zone", facts.time_zone)


def judged_revision(revision: str | None, *, head: str | None) -> Finding:
    """The newest revision that this code knows."""
    if revision is None:
        return fail("postgres: migrations", "none has run", "run 'switchhook migrate'")
    if revision != head:
        found = f"revision {revision}, this code has {head}"
        return fail(
            "postgres: migrations", found, "run 'switchhook migrate' with the newest code, then restart the rest"
        )
    return ok("postgres: migrations", f"revision {revision}, the newest")


def judged_partitions(missing: Sequence[str]) -> Finding:
    """The days to come have theirs."""
    if missing:
        advice = "run 'switchhook beat', which makes them; until then rows go to the default partition"
        return warn("postgres: partitions", f"{len(missing)} of the coming days are missing", advice)
    return ok("postgres: partitions", "the coming days have theirs")


def _transport(settings: Settings, facts: ServerFacts) -> Finding:
    url = make_url(settings.database_url)
    host = url.host or _first(url.query.get("host")) or ""
    mode = _first(url.query.get("sslmode"))
    return transport.judged("postgres", host=host, encrypted=facts.is_encrypted, verified=mode in _VERIFYING)


def _first(value: str | tuple[str, ...] | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value
