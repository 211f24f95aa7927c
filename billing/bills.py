"""A session and its bill while it is being decided: what is known, what was posted, and what is to be written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from billing.assessment import OWN_KEY, Assessment, Posted, at
from billing.entries import Entry
from billing.money import ZERO, parse_number
from billing.usage import Counted, Key, Sums, quarter_of
from relay.calls import TRUST_KEY, TRUST_PROVIDER, CallEvent, Facts, unnamed_conversation
from relay.store.terms import Terms

# Powers of ten that providers' amounts are between: dollars, cents and credits.
_SMALLEST: Final = -20
_LARGEST: Final = 12

Known = TypeVar("Known")
Told = TypeVar("Told")


@dataclass(slots=True, kw_only=True)
class Session:
    """A session while its bill is being decided, column by column; `conversation_id` None until an event names it."""

    account_id: str
    id: int
    provider: str
    conversation_id: str | None = None
    template_id: int | None = None
    agent_id: str | None = None
    status: str = "pending"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: Decimal | None = None
    billed_seconds: int | None = None
    currency: str | None = None
    cost: Decimal | None = None
    list_cost: Decimal | None = None
    unrated_reason: str | None = None
    waived_reason: str | None = None
    rate_card_id: str | None = None
    pinned_card_id: str | None = None
    tag: str | None = None
    own_key: bool = False
    rated_at: datetime | None = None
    charge_sequence: int = 0
    charge_lines: int = 1
    terminal_rank: int | None = None
    terminal_trust: int | None = None
    terminal_ms: int | None = None
    provider_cost_usd: Decimal | str | None = None
    provider_credits: Decimal | str | None = None
    livemode: bool = True
    completed_at: datetime | None = None
    turn_count: int | None = None
    failure_code: str | None = None
    reserved: Decimal | None = None

    @property
    def terms(self) -> Terms:
        """What its price follows from besides its facts."""
        return Terms(self.template_id, self.pinned_card_id, self.tag, self.own_key)

    @property
    def waiver(self) -> str | None:
        """Why nothing is charged for it; None if it is charged."""
        return OWN_KEY if self.own_key else self.operators_waiver

    @property
    def operators_waiver(self) -> str | None:
        """Why an operator charges nothing for it: whose key a call ran on is found out anew each time."""
        return None if self.waived_reason == OWN_KEY else self.waived_reason

    def counted(self) -> Counted | None:
        """Its part of the usage; None until its end was told. A session that is not live is in no sum."""
        if self.terminal_ms is None or self.rated_at is None or not self.livemode:
            return None
        key = Key(
            self.account_id,
            quarter_of(self.rated_at),
            self.provider,
            self.template_id or 0,
            self.tag or "",
            self.status,
            self.currency or "",
        )
        amount = self.cost or ZERO
        return key, Sums(
            sessions=1,
            unrated=0 if self.unrated_reason is None else 1,
            duration_seconds=self.duration_seconds or ZERO,
            billed_seconds=self.billed_seconds or 0,
            amount=amount,
            list_amount=amount if self.list_cost is None else self.list_cost,
        )

    def have_terms(self, terms: Terms) -> None:
        """Have just these terms, whatever they were."""
        self.template_id, self.pinned_card_id = terms.template_id, terms.pinned_card_id
        self.tag, self.own_key = terms.tag, terms.own_key

    def meet(self, agent_id: str | None, *, is_operators: bool) -> None:
        """Hear which agent held the call: one on the operator's key, or another one than it was begun with on its own.

        Neither ran on the account's own key.
        """
        is_another = agent_id is not None and self.agent_id not in (None, agent_id)
        if is_operators or is_another:
            self.own_key = False

    def name(self, conversation_id: str) -> None:
        """Take over its conversation's id, unless it has one that is more than a stand-in."""
        if self.conversation_id in (None, unnamed_conversation(self.id)):
            self.conversation_id = conversation_id

    def take_terms(self, terms: Terms) -> None:
        """Take over a template's terms where it has none of its own."""
        self.pinned_card_id = self.pinned_card_id or terms.pinned_card_id
        self.tag = self.tag or terms.tag
        self.own_key = self.own_key or terms.own_key


COLUMNS: Final = tuple(Session.__slots__)


@dataclass(slots=True)
class Bill:
    """A session, what was posted for it, how it was counted before, and the rows that are to be written."""

    session: Session
    posted: Posted | None
    before: Counted | None
    is_new: bool
    entries: list[Entry]

    def may_be(self, call: CallEvent) -> bool:
        """Whether an event that names this session's id, but not its conversation, or another one, is of this call.

        It is if either side does not know the conversation's own id. Two real ids are two calls.
        """
        if self.session.provider != call.provider:
            return False
        unnamed = unnamed_conversation(self.session.id)
        return self.session.conversation_id in (None, unnamed) or call.conversation_id == unnamed

    def take(self, facts: Facts, assessment: Assessment) -> None:
        """Note what an event says of the call, and of the bill if it is news."""
        session, call, ending = self.session, facts.call, facts.call.ending
        if session.agent_id is None or facts.trust > TRUST_KEY:
            session.agent_id = call.agent_id or session.agent_id
        # Whoever has a say in the bill has one in these; the others fill what is missing.
        is_news = assessment.is_news
        if ending is not None:
            self._take_cost(facts, _kept(ending.provider_cost_usd), is_news=is_news)
            session.provider_credits = _either(
                session.provider_credits, _kept(ending.provider_credits), is_news=is_news
            )
            session.turn_count = _either(session.turn_count, ending.turns, is_news=is_news)
        # A test's event may have come under this conversation before; a call that is charged is none.
        session.livemode = True
        if not is_news or ending is None:
            return
        session.status = ending.status
        session.failure_code = ending.code
        session.started_at = assessment.started_at or session.started_at
        session.ended_at = assessment.ended_at or session.ended_at
        session.completed_at = session.completed_at or assessment.ended_at or at(facts.accepted_at_ms)
        session.terminal_rank = assessment.authority.rank
        session.terminal_trust = assessment.authority.trust
        session.terminal_ms = assessment.authority.accepted_at_ms
        session.reserved = None
        self.rate(assessment)

    def _take_cost(self, facts: Facts, told: str | None, *, is_news: bool) -> None:
        """A markup is on it: what a customer's own program says of it is not kept, nor beside a provider's word."""
        is_providers = facts.trust >= TRUST_PROVIDER
        known_by_provider = self.posted is not None and self.posted.authority.is_providers
        if facts.trust == TRUST_KEY or (known_by_provider and not is_providers):
            return
        session = self.session
        if is_news and is_providers and not known_by_provider:
            session.provider_cost_usd = told
        else:
            session.provider_cost_usd = _either(session.provider_cost_usd, told, is_news=is_news)

    def rate(self, assessment: Assessment) -> None:
        """Take over what a session is charged, or why it is not, and the rows that say so."""
        session, charge = self.session, assessment.charge
        session.duration_seconds = assessment.duration_seconds
        session.billed_seconds = None if charge is None else charge.billed_seconds
        session.currency = None if charge is None else charge.currency
        session.cost = None if charge is None else charge.amount
        session.list_cost = None if charge is None else charge.list_amount
        session.waived_reason = session.operators_waiver if charge is None else charge.reason
        session.unrated_reason = assessment.reason
        session.rate_card_id = assessment.rate_card_id
        session.rated_at = assessment.rated_at
        newest = tuple(entry for entry in assessment.entries if entry.kind == "charge")
        if newest:
            session.charge_sequence = newest[-1].sequence
            session.charge_lines = len(newest)
        elif assessment.entries:
            session.charge_lines = 0  # taken back, and nothing in its place
        self.entries += assessment.entries
        stands = newest or (() if assessment.entries or self.posted is None else self.posted.charge)
        self.posted = Posted(authority=assessment.authority, charge=stands, last=session.charge_sequence)


def _kept(told: str | None) -> str | None:
    """A provider's amount, if it is one that a column takes: nobody's bill waits for a figure that is only compared."""
    number = None if told is None else parse_number(told)
    return told if number is not None and _SMALLEST <= number.adjusted() <= _LARGEST else None


def _either(known: Known, told: Told | None, *, is_news: bool) -> Known | Told:
    return told if told is not None and (is_news or known is None) else known
