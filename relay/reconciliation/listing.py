"""The lists of calls that can be read, and their pages: with the operator's key, and with each account's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from relay.errors import ProviderFailed
from relay.providers import agora, elevenlabs, retell
from relay.providers.records import CallRecord
from relay.providers.rest.agora import Agora
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.providers.rest.retell import Retell
from relay.sealing import KeyRing, UnsealError
from relay.settings import ProviderAccess, Settings
from relay.store import provider_keys, reconciling
from relay.store.database import Database
from relay.store.reconciliations import OPERATOR
from relay.telemetry import logs

# All of Agora's states: its usual list has only what runs.
_STATES: Final = (0, 1, 2, 3, 4, 5, 6)
_AGORA_PAGE: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)

Page = list[CallRecord]
Place = TypeVar("Place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A list of calls that a key opens. `account_id` is OPERATOR for ours; `projects` are Agora's, which it needs."""

    account_id: str
    provider: str
    access: ProviderAccess
    projects: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is opened by an account's own key."""
        return self.account_id != OPERATOR


def readable(settings: Settings, database: Database, ring: KeyRing, *, provider: str | None = None) -> list[Readable]:
    """All lists that can be read, ours first. Raises Unavailable."""
    ours = {elevenlabs.NAME: settings.elevenlabs, retell.NAME: settings.retell, agora.NAME: settings.agora}
    found = [Readable(account_id=OPERATOR, provider=name, access=access) for name, access in ours.items()]
    found = [one for one in found if one.access.api_key]
    with database.begin() as connection:
        for account_id, name in reconciling.keyed(connection):
            try:
                key = provider_keys.opened(connection, ring, account_id=account_id, provider=name)
            except UnsealError:
                logs.warning("provider_key_unreadable", account_id=account_id, provider=name)
                continue
            if key is not None and name in ours:
                found.append(Readable(account_id=account_id, provider=name, access=replace(ours[name], api_key=key)))
        found = [one for one in found if provider in (None, one.provider)]
        return [_with_projects(one, reconciling.projects(connection, account_id=one.account_id or None))
                if one.provider == agora.NAME else one for one in found]  # fmt: skip


def pages(source: Readable, *, since: datetime, until: datetime) -> Iterator[Page]:
    """The calls that began from `since` to before `until`, a page at a time. Raises ProviderFailed, -Unavailable."""
    match source.provider:
        case elevenlabs.NAME:
            found = _elevenlabs(ElevenLabs(source.access), since, until)
        case retell.NAME:
            found = _retell(Retell(source.access), since, until)
        case _:
            found = _agora(Agora(source.access), source.projects, since, until)
    for page in found:
        # Providers do not say whether the ends of a window are within.
        yield [one for one in page if (began := began_at(one)) is not None and since <= began < until]


def began_at(record: CallRecord) -> datetime | None:
    """When a call began, as its provider says."""
    ending = record.call.ending
    return None if ending is None or ending.started_at_ms is None else _EPOCH + ending.started_at_ms * _MILLISECOND


def _elevenlabs(api: ElevenLabs, since: datetime, until: datetime) -> Iterator[Page]:
    after, before = _seconds(since) - 1, _seconds(until) + 2

    def page(cursor: str | None) -> tuple[Page, str | None]:
        read = api.conversations(cursor=cursor, started_after=after, started_before=before)
        return list(read.conversations), read.next_cursor

    return _following(page)


def _retell(api: Retell, since: datetime, until: datetime) -> Iterator[Page]:
    since_ms, until_ms = (since - _EPOCH) // _MILLISECOND, (until - _EPOCH) // _MILLISECOND + 1

    def page(key: str | None) -> tuple[Page, str | None]:
        read = api.calls(since_ms=since_ms, until_ms=until_ms, pagination_key=key)
        return list(read.items), read.pagination_key

    return _following(page)


def _agora(api: Agora, projects: tuple[str, ...], since: datetime, until: datetime) -> Iterator[Page]:
    first, last = _seconds(since), _seconds(until) + 1
    for appid in projects:

        def page(cursor: str | None, appid: str = appid) -> tuple[Page, str | None]:
            read = api.list(appid, from_time=first, to_time=last, state=_STATES, limit=_AGORA_PAGE, cursor=cursor)
            shown = (agora.record(one.agent_id, status=one.status, start_ts=one.start_ts, stop_ts=None)
                     for one in read.agents)  # fmt: skip
            return list(shown), read.cursor

        yield from _following(page)


def _following(page: Callable[[Place | None], tuple[Page, Place | None]]) -> Iterator[Page]:
    """Page after page. Raises ProviderFailed for a list that leads back to where it was."""
    place: Place | None = None
    seen: set[Place] = set()
    while True:
        found, place = page(place)
        yield found
        if place is None:
            return
        if place in seen:
            raise ProviderFailed("the provider's list of calls leads back to a page that was read")
        seen.add(place)


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def _with_projects(source: Readable, projects: list[str]) -> Readable:
    return replace(source, projects=tuple(projects))
