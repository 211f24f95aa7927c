"""Sessions whose end should have been told by now: their provider is asked, once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from typing import Final

from billing.duration import LIMITS_SECONDS, LONGEST_SECONDS
from relay.errors import ProviderFailed, ProviderUnavailable, Unavailable
from relay.providers import agora
from relay.reconciliation.fetching import fetched
from relay.reconciliation.listing import Readable
from relay.reconciliation.mending import Mending
from relay.reconciliation.tally import Stopped
from relay.store import reconciliations, reconciling
from relay.store.database import Database
from relay.store.reconciliations import OPERATOR
from relay.store.reconciling import Stuck
from relay.store.sessions import UNUSED
from relay.telemetry import logs

_USUAL: Final = timedelta(seconds=LONGEST_SECONDS)
_AGORA: Final = timedelta(seconds=LIMITS_SECONDS[agora.NAME])
# Beyond what a call may last: for its webhook, and for the list that it stands in.
_SLACK: Final = timedelta(minutes=30)
# A pending one is asked for before it is given up.
_PENDING: Final = UNUSED - 2 * _SLACK
# Each is a call to a provider, of a second at most when all is well.
MOST: Final = 100
_PAGE: Final = 500


def ask(database: Database, sources: Iterable[Readable], mending: Mending, *, may_go_on: Callable[[], bool]) -> int:
    """Ask for those whose time is over; how many were answered. What has ended is mended as what is listed is.

    What has not is left for `relay.store.sessions.abandon`. A provider that does not answer, or refuses its key, keeps
    no other's sessions waiting, and is asked again in the next turn. Raises Unavailable.
    """
    by_key = {(one.account_id, one.provider): one for one in sources}
    silent: set[tuple[str, str]] = set()
    answered = 0
    for session in _waiting(database, {provider for account_id, provider in by_key if account_id == OPERATOR}):
        source = by_key.get((session.account_id, session.provider)) or by_key.get((OPERATOR, session.provider))
        if answered >= MOST or not may_go_on():
            break
        if source is None or (key := (source.account_id, source.provider)) in silent:
            continue
        if session.account_id in mending.unreadable:
            continue
        try:
            _asked(database, source, session, mending)
        except (ProviderUnavailable, ProviderFailed) as error:
            silent.add(key)
            logs.warning("provider_not_asked", provider=session.provider, account_id=source.account_id, error=error)
        except Stopped:
            break
        except Unavailable:
            raise
        except Exception as error:
            logs.failure("session_not_asked", error, provider=session.provider, account_id=session.account_id)
        else:
            answered += 1
    return answered


def _waiting(database: Database, providers: Collection[str]) -> Iterator[Stuck]:
    """Every one, a page at a time: those that nobody answers for are not to hide the others."""
    last: Stuck | None = None
    while True:
        with database.begin() as connection:
            page = reconciling.stuck(
                connection,
                providers=providers,
                usual=_USUAL,
                agora=_AGORA,
                pending=_PENDING,
                slack=_SLACK,
                after=last,
                limit=_PAGE,
            )
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]


def _asked(database: Database, source: Readable, session: Stuck, mending: Mending) -> None:
    project = None
    if session.provider == agora.NAME:
        with database.begin() as connection:
            project = reconciling.project_of(
                connection, account_id=session.account_id, agent_id=session.conversation_id
            )
    found = fetched(source.access, session.provider, session.conversation_id, project=project)
    if found is not None:
        mending.page(source, [found.record], grace=timedelta())
    if session.account_id in mending.unreadable:
        return
    with database.begin() as connection:
        reconciliations.add_found(connection, provider=session.provider, found=mending.tally.taken_found())
        reconciling.asked(
            connection,
            account_id=session.account_id,
            provider=session.provider,
            conversation_id=session.conversation_id,
        )
