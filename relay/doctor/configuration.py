"""The configuration: whether its mirror in Redis is what Postgres has, and whether its secrets open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection

from relay.directory import Mirror
from relay.doctor.finding import Finding, fail, ok, warn
from relay.sealing import KeyRing
from relay.store import accounts, openable
from relay.store.openable import Sample

# Of each kind of row, oldest and newest: enough to meet every key that has sealed for a while, done in a moment.
_SAMPLE: Final = 100


def examine_keys(ring: KeyRing) -> Finding:
    """The keys by their names."""
    first, *others = ring.ids
    opening = f", {', '.join(others)} only open" if others else ""
    return ok("sealing keys", f"{len(ring.ids)}: {first} seals{opening}")


def examine_rows(connection: Connection, ring: KeyRing) -> Finding:
    """Try what Postgres has sealed. Raises what Database raises."""
    return judged_sample(openable.sample(connection, ring, most=_SAMPLE))


def judged_sample(sample: Sample) -> Finding:
    """Every row opens."""
    check = "sealed configuration"
    if sample.closed:
        advice = (
            "put the key back into SWITCHHOOK_KEYS that sealed them (after the one that seals now); "
            "without it these sources, endpoints and templates must be made anew"
        )
        return fail(check, f"{sample.closed} of {sample.tried} rows do not open", advice)
    return ok(check, f"{sample.tried} rows tried, all open")


def examine_mirror(connection: Connection, mirror: Mirror) -> Iterator[Finding]:
    """Compare both sides. Raises Unavailable and what Database raises."""
    # The mirror first: what changes between the looks makes Postgres newer, which is no harm.
    mirrored, is_complete = mirror.versions(), mirror.is_complete()
    yield from judged_mirror(mirrored, accounts.versions(connection), is_complete=is_complete)


def judged_mirror(mirrored: Mapping[str, int], stored: Mapping[str, int], *, is_complete: bool) -> Iterator[Finding]:
    """Versions by account in Redis and in Postgres."""
    check = "configuration in Redis"
    newer = sum(version > stored.get(account_id, version) for account_id, version in mirrored.items())
    unknown = len(mirrored.keys() - stored.keys())
    behind = sum(version > mirrored.get(account_id, 0) for account_id, version in stored.items())
    if newer:
        advice = (
            "was Postgres restored from a backup? Then run 'switchhook billing recharge --since' the backup: it has "
            "Redis take the configuration from Postgres again; what was set up since the backup must be set up again"
        )
        yield fail(check, f"{newer} account(s) are newer than in Postgres", advice)
    elif unknown:
        advice = (
            "were they made since the backup that Postgres was restored from? Their webhooks are taken, and wait. Make "
            "them anew, then delete sw:config:versions and sw:config:accounts in Redis"
        )
        yield fail(check, f"{unknown} account(s) are not in Postgres", advice)
    elif behind:
        advice = "run 'switchhook beat', which mirrors them within a minute"
        yield warn(check, f"{behind} of {len(stored)} account(s) are not the newest", advice)
    elif not is_complete and stored:
        advice = "run 'switchhook beat'; until then unknown sources need Postgres to be refused"
        yield warn(check, "not declared complete yet", advice)
    else:
        yield ok(check, f"{len(stored)} account(s), all as in Postgres")
