"""Writes: sessions that ended and their ledger rows, together in one transaction.

The ledger only grows. Its key (account, provider, conversation id, kind, sequence) makes a second charge impossible
whatever is repeated; the session's row is locked while its bill is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from billing.assessment import Assessment, Authority, Entry, Posted, assess, at
from relay.calls import TRUST_PROVIDER, CallEvent, Facts, derived_session_id, unnamed_conversation
from relay.errors import Conflict
from relay.store import rate_cards

Key = tuple[str, str, str]
"""Account, provider, conversation id: what a session is known by."""

# Every join here looks up a few hundred keys in tables of millions, one index descent each. While statistics lag behind
# a table that grows fast, the planner would rather read it whole, or all rows of one account; `account_id || ''` keeps
# it from every index that begins with the account (ADR 0009).
_BY_INDEX: Final = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true)
""")

_FIND: Final = text("""
    WITH wanted AS (
        SELECT * FROM jsonb_to_recordset(CAST(:wanted AS jsonb))
            AS w(account_id text, provider text, conversation_id text, id bigint)
    ), known AS (
        SELECT s.account_id, s.id FROM wanted w JOIN sessions s
            ON s.conversation_id = w.conversation_id AND s.provider = w.provider AND s.account_id || '' = w.account_id
        UNION SELECT account_id, id FROM wanted
    )
    SELECT s.account_id, s.provider, s.conversation_id, s.id, s.template_id, s.status,
           s.terminal_rank, s.terminal_trust, s.terminal_ms,
           l.sequence, l.rate_card_id, l.started_at, l.duration_seconds, l.billed_seconds, l.unit_price, l.exact,
           l.amount, l.currency
    FROM (SELECT * FROM known ORDER BY account_id, id) k
    JOIN sessions s ON s.id = k.id AND s.account_id || '' = k.account_id
    LEFT JOIN ledger l ON l.conversation_id = s.conversation_id AND l.account_id || '' = s.account_id
        AND l.provider = s.provider AND l.kind = 'charge' AND l.sequence = s.charge_sequence
    FOR UPDATE OF s
""")

_SESSION_COLUMNS: Final = """
    account_id text, provider text, conversation_id text, id bigint, template_id bigint, agent_id text, status text,
    started_at timestamptz, ended_at timestamptz, duration_seconds numeric, billed_seconds int, currency text,
    cost numeric, unrated_reason text, rate_card_id text, charge_sequence int, terminal_rank smallint,
    terminal_trust smallint, terminal_ms bigint, provider_cost_usd numeric, provider_credits numeric, livemode boolean,
    completed_at timestamptz, turn_count int, failure_code text
"""

_INSERT_SESSIONS: Final = text(f"""
    INSERT INTO sessions (account_id, provider, conversation_id, id, template_id, agent_id, status, started_at,
        ended_at, duration_seconds, billed_seconds, currency, cost, unrated_reason, rate_card_id, charge_sequence,
        terminal_rank, terminal_trust, terminal_ms, provider_cost_usd, provider_credits, livemode, completed_at,
        turn_count, failure_code, created_at)
    SELECT r.*, now() FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_SESSION_COLUMNS})
    ON CONFLICT DO NOTHING
""")  # noqa: S608  the columns are constants

_UPDATE_SESSIONS: Final = text(f"""
    UPDATE sessions s SET
        conversation_id = r.conversation_id,
        template_id = COALESCE(s.template_id, r.template_id),
        agent_id = COALESCE(r.agent_id, s.agent_id),
        status = COALESCE(r.status, s.status),
        started_at = COALESCE(r.started_at, s.started_at),
        ended_at = COALESCE(r.ended_at, s.ended_at),
        duration_seconds = CASE WHEN r.status IS NULL THEN s.duration_seconds ELSE r.duration_seconds END,
        billed_seconds = CASE WHEN r.status IS NULL THEN s.billed_seconds ELSE r.billed_seconds END,
        currency = CASE WHEN r.status IS NULL THEN s.currency ELSE r.currency END,
        cost = CASE WHEN r.status IS NULL THEN s.cost ELSE r.cost END,
        unrated_reason = CASE WHEN r.status IS NULL THEN s.unrated_reason ELSE r.unrated_reason END,
        rate_card_id = CASE WHEN r.status IS NULL THEN s.rate_card_id ELSE r.rate_card_id END,
        charge_sequence = GREATEST(s.charge_sequence, r.charge_sequence),
        terminal_rank = CASE WHEN r.status IS NULL THEN s.terminal_rank ELSE r.terminal_rank END,
        terminal_trust = CASE WHEN r.status IS NULL THEN s.terminal_trust ELSE r.terminal_trust END,
        terminal_ms = CASE WHEN r.status IS NULL THEN s.terminal_ms ELSE r.terminal_ms END,
        provider_cost_usd = COALESCE(r.provider_cost_usd, s.provider_cost_usd),
        provider_credits = COALESCE(r.provider_credits, s.provider_credits),
        completed_at = COALESCE(s.completed_at, r.completed_at),
        turn_count = COALESCE(r.turn_count, s.turn_count),
        failure_code = CASE WHEN r.status IS NULL THEN s.failure_code ELSE r.failure_code END
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_SESSION_COLUMNS})
    WHERE s.id = r.id AND s.account_id || '' = r.account_id
""")  # noqa: S608  the columns are constants

_INSERT_LEDGER: Final = text("""
    INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, template_id, rate_card_id,
        started_at, duration_seconds, billed_seconds, unit_price, exact, amount, currency, steps, created_at)
    SELECT r.*, now() FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        account_id text, provider text, conversation_id text, kind text, sequence int, session_id bigint,
        template_id bigint, rate_card_id text, started_at timestamptz, duration_seconds numeric, billed_seconds int,
        unit_price numeric, exact numeric, amount numeric, currency text, steps text[])
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class Rated:
    """What became of one terminal event: an assessment, for the caller's metrics and logs."""

    facts: Facts
    assessment: Assessment


@dataclass(slots=True)
class _Session:
    """A session while its bill is being decided; `conversation_id` None until an event names its conversation."""

    id: int
    provider: str
    conversation_id: str | None
    template_id: int | None
    posted: Posted | None
    is_new: bool

    def may_be(self, call: CallEvent) -> bool:
        """Whether an event that names this session's id, but not its conversation, or another one, is of this call.

        It is if either side does not know the conversation's own id. Two real ids are two calls.
        """
        if self.provider != call.provider:
            return False
        unnamed = unnamed_conversation(self.id)
        return self.conversation_id in (None, unnamed) or call.conversation_id == unnamed


class _Sessions:
    """The sessions of one batch, by conversation and by id."""

    def __init__(self) -> None:
        self._by_key: dict[Key, _Session] = {}
        self._by_id: dict[tuple[str, int], _Session] = {}

    def add(self, account_id: str, session: _Session) -> None:
        """Take in a session."""
        self._by_id[account_id, session.id] = session
        if session.conversation_id is not None:
            self._by_key[account_id, session.provider, session.conversation_id] = session

    def of(self, facts: Facts) -> _Session:
        """The session of an event, a new one if there is none; its template is the first that was named."""
        session = self._known(facts) or self._made(facts)
        session.template_id = session.template_id or facts.template_id
        return session

    def _known(self, facts: Facts) -> _Session | None:
        key = _key(facts)
        session = self._by_key.get(key)
        if session is not None:
            return session
        holder = self._by_id.get((facts.account_id, facts.session_id))
        if holder is not None and holder.may_be(facts.call):
            holder.conversation_id = holder.conversation_id or facts.call.conversation_id
            self._by_key[key] = holder
            return holder
        return None

    def _made(self, facts: Facts) -> _Session:
        # Where another conversation went under this id before, this one gets an id of its own.
        is_taken = (facts.account_id, facts.session_id) in self._by_id
        new_id = derived_session_id(*_key(facts)) if is_taken else facts.session_id
        session = _Session(new_id, facts.call.provider, facts.call.conversation_id, None, None, is_new=True)
        self.add(facts.account_id, session)
        return session


def charge(connection: Connection, events: Sequence[Facts]) -> list[Rated]:
    """Write what these terminal events make of their sessions' bills. Safe to repeat.

    Several events of one call may come at once; each is decided on what the one before it left. Raises Conflict when
    another process is writing the same new session at this moment: try the transaction again.
    """
    connection.execute(_BY_INDEX)
    cards = rate_cards.in_force(connection, {facts.account_id for facts in events})
    sessions = _find(connection, events)
    pairs = [(facts, sessions.of(facts)) for facts in events]
    template_ids = {session.template_id for _, session in pairs if session.template_id is not None}
    own_cards = rate_cards.of_templates(connection, template_ids)
    rated: list[Rated] = []
    rows: dict[tuple[tuple[str, int], bool], dict[str, Any]] = {}
    entries: list[dict[str, Any]] = []
    for facts, session in pairs:
        own_card = own_cards.get((facts.account_id, session.template_id or 0))
        assessment = assess(facts, cards[facts.account_id], session.posted, own_card=own_card)
        rated.append(Rated(facts, assessment))
        row = _session_row(facts, session, assessment)
        place = ((facts.account_id, session.id), session.is_new)
        rows[place] = _merged(rows.get(place), row)
        entries += [_entry_row(facts, session, entry) for entry in assessment.entries]
        if assessment.is_news:
            newest = assessment.entries[-1] if assessment.entries else session.posted and session.posted.charge
            session.posted = Posted(authority=assessment.authority, charge=newest or None)
    # In the order of their keys, so that two processes never wait for each other's locks in a circle.
    ordered = sorted(rows)
    _write(connection, _INSERT_SESSIONS, [rows[place] for place in ordered if place[1]])
    _write(connection, _UPDATE_SESSIONS, [rows[place] for place in ordered if not place[1]])
    _write(connection, _INSERT_LEDGER, entries)
    return rated


def _find(connection: Connection, events: Sequence[Facts]) -> _Sessions:
    """The sessions of these events that exist, locked until the transaction ends."""
    wanted = [
        {"account_id": f.account_id, "provider": f.call.provider, "conversation_id": f.call.conversation_id,
         "id": f.session_id} for f in events
    ]  # fmt: skip
    sessions = _Sessions()
    for row in connection.execute(_FIND, {"wanted": msgspec.json.encode(wanted).decode()}).mappings():
        known = _Session(
            row["id"], row["provider"], row["conversation_id"], row["template_id"], _posted(row), is_new=False
        )
        sessions.add(row["account_id"], known)
    return sessions


def _posted(row: Any) -> Posted | None:
    if row["terminal_ms"] is None:
        return None
    charged = None
    if row["sequence"] is not None:
        charged = Entry(
            kind="charge",
            sequence=row["sequence"],
            rate_card_id=row["rate_card_id"],
            started_at=row["started_at"],
            duration_seconds=row["duration_seconds"],
            billed_seconds=row["billed_seconds"],
            unit_price=row["unit_price"],
            exact=row["exact"],
            amount=row["amount"],
            currency=row["currency"],
            steps=(),
        )
    # NULL is of a version that knew of no trust. What it charged is taken back for nothing less than a provider's word.
    trust = TRUST_PROVIDER if row["terminal_trust"] is None else row["terminal_trust"]
    authority = Authority(charged is not None, trust, row["terminal_rank"], row["terminal_ms"])
    return Posted(authority=authority, charge=charged)


def _session_row(facts: Facts, session: _Session, assessment: Assessment) -> dict[str, Any]:
    """The session as this event leaves it. `status` None: its word counts less than what is there."""
    ending, charged = facts.call.ending, assessment.charge
    row: dict[str, Any] = {
        "account_id": facts.account_id,
        "provider": facts.call.provider,
        "conversation_id": session.conversation_id,
        "id": session.id,
        "template_id": session.template_id,
        "agent_id": facts.call.agent_id,
        "status": None,
        "charge_sequence": 0,
        "livemode": facts.call.livemode,
        "provider_cost_usd": ending and ending.provider_cost_usd,
        "provider_credits": ending and ending.provider_credits,
        "turn_count": ending and ending.turns,
        "failure_code": None,
    }
    if assessment.is_news:
        row |= {
            "status": ending and ending.status,
            "failure_code": ending and ending.code,
            "started_at": assessment.started_at,
            "ended_at": assessment.ended_at,
            "duration_seconds": assessment.duration_seconds,
            "billed_seconds": charged and charged.billed_seconds,
            "currency": charged and charged.currency,
            "cost": charged and charged.amount,
            "unrated_reason": assessment.reason,
            "rate_card_id": assessment.rate_card_id,
            "charge_sequence": max((entry.sequence for entry in assessment.entries), default=0),
            "terminal_rank": assessment.authority.rank,
            "terminal_trust": assessment.authority.trust,
            "terminal_ms": assessment.authority.accepted_at_ms,
            "completed_at": assessment.ended_at or at(facts.accepted_at_ms),
        }
    return row


def _merged(earlier: dict[str, Any] | None, later: dict[str, Any]) -> dict[str, Any]:
    """Two events of one call in one batch make one row, as if they had come one after the other."""
    if earlier is None:
        return later
    said = {name: value for name, value in later.items() if value is not None}
    if later["status"] is not None:
        # A new verdict replaces the old one whole: what it leaves open is open.
        said |= {name: later[name] for name in ("duration_seconds", "billed_seconds", "currency", "cost")}
        said |= {name: later[name] for name in ("unrated_reason", "rate_card_id", "failure_code")}
    said["charge_sequence"] = max(earlier["charge_sequence"], later["charge_sequence"])
    return earlier | said


def _entry_row(facts: Facts, session: _Session, entry: Entry) -> dict[str, Any]:
    return {
        "account_id": facts.account_id,
        "provider": facts.call.provider,
        "conversation_id": session.conversation_id,
        "kind": entry.kind,
        "sequence": entry.sequence,
        "session_id": session.id,
        "template_id": session.template_id,
        "rate_card_id": entry.rate_card_id,
        "started_at": entry.started_at,
        "duration_seconds": entry.duration_seconds,
        "billed_seconds": entry.billed_seconds,
        "unit_price": entry.unit_price,
        "exact": entry.exact,
        "amount": entry.amount,
        "currency": entry.currency,
        "steps": entry.steps,
    }


def _write(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    written = connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})
    if written.rowcount != len(rows):
        # Someone else wrote one of these at this moment; its row is locked or committed by the next try.
        raise Conflict("a session of this batch was written by another process; try again", code="session_contended")


def _key(facts: Facts) -> Key:
    return facts.account_id, facts.call.provider, facts.call.conversation_id
