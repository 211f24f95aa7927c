"""One page of a provider's calls: what is missing of it here is charged, and relayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from billing.money import ZERO, parse_number
from relay.errors import NotFound
from relay.providers import agora
from relay.providers.records import CallRecord
from relay.reconciliation import decisions, owners
from relay.reconciliation.charging import charged
from relay.reconciliation.decisions import Need
from relay.reconciliation.fetching import Fetched, fetched
from relay.reconciliation.listing import Readable, began_at
from relay.reconciliation.owners import Owned
from relay.reconciliation.relaying import Relaying
from relay.reconciliation.tally import Listed, Stopped, Tally
from relay.sealing import UnsealError
from relay.store import reconciling
from relay.store.database import Database
from relay.telemetry import logs

# Webhooks come within seconds of a call's end, and a provider's own tries within minutes: those are waited for.
GRACE: Final = timedelta(minutes=15)


@dataclass(slots=True)
class Work:
    """A call while it is looked at. `fetched` None: it was not asked for alone."""

    owned: Owned
    need: Need
    is_told: bool
    fetched: Fetched | None = None

    @property
    def record(self) -> CallRecord:
        """The most that is known of it."""
        return self.owned.record if self.fetched is None else self.fetched.record


class Mending:
    """Mends page after page. Every method raises Unavailable, ProviderFailed and ProviderUnavailable.

    `unreadable` are accounts whose configuration no key opens: what they lack waits until that is mended, and nobody
    else's does. While `goes_on` is False nothing further is mended.
    """

    def __init__(
        self,
        database: Database,
        relaying: Relaying,
        *,
        retention: timedelta,
        may_relay: bool,
        tally: Tally,
        goes_on: Callable[[], bool],
    ) -> None:
        self._database = database
        self._relaying = relaying
        self._retention = retention
        self._may_relay = may_relay
        self._goes_on = goes_on
        self.tally = tally
        self.unreadable: set[str] = set()

    def page(self, source: Readable, records: Sequence[CallRecord], *, grace: timedelta = GRACE) -> list[Listed]:
        """Mend what is to be mended of these calls. Returns those that are somebody's here and are over.

        Raises Stopped.
        """
        self._stop_if_asked()
        now = datetime.now(UTC)
        ended = [one for one in records if one.is_over and _is_before(one, now - grace)]
        works = self._works(source, ended)
        self.tally.read += len(ended)
        self.tally.unassigned += len(ended) - len(works)
        listed = []
        for work in works:
            self._stop_if_asked()
            self._ask(source, work)
            if not (work.record.is_over and _is_before(work.record, now - grace)):
                continue
            self._mend(work, now)
            listed.append(_listed(work))
        return listed

    def _stop_if_asked(self) -> None:
        if not self._goes_on():
            raise Stopped("postponed")

    def _works(self, source: Readable, records: Sequence[CallRecord]) -> list[Work]:
        if not records:
            return []
        with self._database.begin() as connection:
            found = owners.owned(connection, source, records)
            told: set[tuple[str, str]] = set()
            for account_id in sorted({one.account_id for one in found}):
                ids = {one.record.call.conversation_id for one in found if one.account_id == account_id}
                heard = reconciling.told(
                    connection, account_id=account_id, provider=source.provider, conversation_ids=ids
                )
                told.update((account_id, conversation_id) for conversation_id in heard)
        return [
            Work(one, decisions.need(one.record, one.known), (one.account_id, one.record.call.conversation_id) in told)
            for one in found
        ]

    def _ask(self, source: Readable, work: Work) -> None:
        """Ask for one call where the list does not say enough: for its length, its session, or its content."""
        record, known = work.owned.record, work.owned.known
        if decisions.is_silent(record) and decisions.is_settled(known):
            return
        if decisions.is_silent(record) or work.need is Need.FOUND or self._is_to_be_relayed(work):
            call = record.call
            project = self._project(work.owned) if source.provider == agora.NAME else None
            work.fetched = fetched(source.access, source.provider, call.conversation_id, project=project)
            work.need = decisions.need(work.record, known)

    def _mend(self, work: Work, now: datetime) -> None:
        known = work.owned.known
        if known is not None and not known.livemode:
            return
        is_relayed = self._is_to_be_relayed(work) and _is_before(work.record, now - GRACE)
        if work.need is Need.NONE and not is_relayed:
            return
        try:
            self._make_good(work, is_relayed=is_relayed)
        except NotFound:
            return  # the account went meanwhile
        except UnsealError:
            account_id = work.owned.account_id
            self.tally.unmended += 1
            if account_id not in self.unreadable:
                self.unreadable.add(account_id)
                logs.alarm("account_unreadable", account_id=account_id, provider=work.record.call.provider)

    def _make_good(self, work: Work, *, is_relayed: bool) -> None:
        known = work.owned.known
        facts = self._relaying.facts(work.owned.account_id, work.record, known)
        if work.need is not Need.NONE:
            self.tally.differ(None if known is None else known.duration_seconds, decisions.seconds(work.record))
            assessment = charged(self._database, facts, is_found=work.need is Need.FOUND)
            self.tally.mended[work.need] += 1
            if assessment is None or not assessment.is_news or assessment.reason is not None:
                self.tally.unmended += 1
            if work.need is Need.FOUND and (began := began_at(work.record)) is not None:
                self.tally.found[work.owned.account_id, began.date()] += 1
        body = None if work.fetched is None else work.fetched.body
        if is_relayed and body is not None:
            self.tally.relayed += self._relaying.relay(facts, body)

    def _is_to_be_relayed(self, work: Work) -> bool:
        """Whether its account was never sent how it ended, and may be: proved to be its own, young, and not erased."""
        owned = work.owned
        if work.is_told or not (self._may_relay and owned.is_proved) or owned.record.call.provider == agora.NAME:
            return False
        if work.need is not Need.FOUND and not decisions.is_unrelayed(owned.record, owned.known):
            return False
        known, ended = owned.known, decisions.ended_at(owned.record)
        if known is not None and (known.content_erased_at or known.deleted_at or not known.livemode):
            return False
        return ended is not None and ended > datetime.now(UTC) - self._retention

    def _project(self, owned: Owned) -> str | None:
        with self._database.begin() as connection:
            return reconciling.project_of(
                connection, account_id=owned.account_id, agent_id=owned.record.call.conversation_id
            )


def _listed(work: Work) -> Listed:
    known, ending = work.owned.known, work.record.call.ending
    seconds = decisions.seconds(work.record)
    if seconds is None:
        # It does not say, and what we have is its own word.
        seconds = (known.duration_seconds if known is not None else None) or ZERO
    cost = None if ending is None or ending.provider_cost_usd is None else parse_number(ending.provider_cost_usd)
    return Listed(
        account_id=work.owned.account_id,
        conversation_id=work.record.call.conversation_id,
        seconds=seconds,
        cost_usd=cost,
    )


def _is_before(record: CallRecord, moment: datetime) -> bool:
    ended = decisions.ended_at(record)
    return ended is not None and ended <= moment
