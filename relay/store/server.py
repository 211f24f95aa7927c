"""What the Postgres server says of itself and of our connection to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

_FACTS = text("""
    SELECT current_setting('server_version_num')::int AS version_number, current_setting('server_version') AS version,
           current_setting('TimeZone') AS time_zone, current_setting('transaction_read_only')::boolean AS is_read_only,
           pg_is_in_recovery() AS is_standby,
           COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """`version_number` is 180003 for 18.3; `time_zone`, `is_read_only` and `is_encrypted` are of this connection."""

    version_number: int
    version: str
    time_zone: str
    is_read_only: bool
    is_standby: bool
    is_encrypted: bool


def facts(connection: Connection) -> ServerFacts:
    """Ask for all of it at once."""
    return ServerFacts(**connection.execute(_FACTS).mappings().one())


def now(connection: Connection) -> datetime:
    """The same clock, in UTC. What cannot be undone goes by it: a host's own may be anywhere."""
    return datetime.fromtimestamp(now_seconds(connection), UTC)


def now_seconds(connection: Connection) -> float:
    """The server's clock, Unix time: of this moment, not of the transaction's begin."""
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
