"""The sessions that events belong to: found by their conversations or ids, and locked.

A session is known by its conversation, or by the id that the event names. What is read here is locked until the
transaction ends, so that it can be written back whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, TextClause, text

from billing.assessment import Authority, Posted
from billing.bills import COLUMNS, Bill, Session
from billing.entries import Entry
from relay.calls import TRUST_KEY, TRUST_PROVIDER, Facts, derived_session_id
from relay.errors import Conflict

ConversationKey = tuple[str, str, str]
"""Account, provider, conversation id: what a session is known by."""

# Every join here looks up a few hundred keys in tables of millions, one index descent each. While statistics lag behind
# a table that grows fast, the planner would rather read it whole, or all rows of one account; `account_id || ''` keeps
# it from every index that begins with the account (ADR 0009), and `session_id + 0` from searching one of those for each
# account. A session may have been charged before its conversation was named.
_BY_INDEX: Final = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true)
""")

_FIND: Final = """
    WITH wanted AS (
        SELECT * FROM jsonb_to_recordset(CAST(:wanted AS jsonb))
            AS w(account_id text, provider text, conversation_id text, id bigint)
    ), known AS (
        SELECT s.account_id, s.id FROM wanted w JOIN sessions s
            ON s.conversation_id = w.conversation_id AND s.provider = w.provider AND s.account_id || '' = w.account_id
        UNION SELECT account_id, id FROM wanted
    )
    SELECT s.account_id, s.id, s.provider, s.conversation_id, s.template_id, s.agent_id, s.status, s.started_at,
        s.ended_at, s.duration_seconds, s.billed_seconds, s.currency, s.cost, s.list_cost, s.unrated_reason,
        s.waived_reason, s.rate_card_id, s.pinned_card_id, s.tag, s.own_key, s.rated_at, s.charge_sequence,
        s.charge_lines, s.terminal_rank, s.terminal_trust, s.terminal_ms, s.provider_cost_usd, s.provider_credits,
        s.livemode, s.completed_at, s.turn_count, s.failure_code, s.reserved,
        l.sequence AS l_sequence, l.part AS l_part, l.line AS l_line, l.rate_card_id AS l_rate_card_id,
        l.started_at AS l_started_at, l.duration_seconds AS l_duration_seconds, l.billed_seconds AS l_billed_seconds,
        l.quantity AS l_quantity, l.unit_price AS l_unit_price, l.exact AS l_exact, l.amount AS l_amount,
        l.currency AS l_currency, l.list_amount AS l_list_amount, l.reason AS l_reason,
        l.provider_cost_usd AS l_provider_cost_usd, l.template_id AS l_template_id, l.tag AS l_tag
    FROM (SELECT * FROM known ORDER BY account_id, id) k
    JOIN sessions s ON s.id = k.id AND s.account_id || '' = k.account_id
    LEFT JOIN ledger l ON l.conversation_id = ANY (ARRAY[s.conversation_id, 'session-' || s.id])
        AND l.account_id || '' = s.account_id AND l.session_id + 0 = s.id
        AND l.provider = s.provider AND l.kind = 'charge'
        AND l.sequence > s.charge_sequence - s.charge_lines AND l.sequence <= s.charge_sequence
"""
_READ: Final = text(_FIND)
_LOCK: Final = text(_FIND + "FOR UPDATE OF s")


class Bills:
    """The sessions of one batch, by conversation and by id."""

    def __init__(self, found: Iterable[Bill] = ()) -> None:
        self._by_key: dict[ConversationKey, Bill] = {}
        self._by_id: dict[tuple[str, int], Bill] = {}
        for bill in found:
            self._add(bill)

    def __iter__(self) -> Iterator[Bill]:
        return iter(self._by_id.values())

    def of(self, facts: Facts) -> Bill:
        """The bill of an event's session, a new one if there is none."""
        return self._known(facts) or self._made(facts)

    def _add(self, bill: Bill) -> None:
        session = bill.session
        self._by_id[session.account_id, session.id] = bill
        if session.conversation_id is not None:
            self._by_key[session.account_id, session.provider, session.conversation_id] = bill

    def _known(self, facts: Facts) -> Bill | None:
        key = key_of(facts)
        bill = self._by_key.get(key)
        if bill is not None:
            return bill
        holder = self._by_id.get((facts.account_id, facts.session_id))
        if holder is not None and holder.may_be(facts.call):
            holder.session.name(facts.call.conversation_id)
            self._by_key[key] = holder
            return holder
        return None

    def _made(self, facts: Facts) -> Bill:
        # Where another conversation went under this id before, this one gets an id of its own.
        is_taken = (facts.account_id, facts.session_id) in self._by_id
        session = Session(
            account_id=facts.account_id,
            id=derived_session_id(*key_of(facts)) if is_taken else facts.session_id,
            provider=facts.call.provider,
            conversation_id=facts.call.conversation_id,
            livemode=facts.call.livemode,
        )
        bill = Bill(session, posted=None, before=None, is_new=True, entries=[])
        self._add(bill)
        return bill


def find(connection: Connection, events: Sequence[Facts]) -> Bills:
    """The sessions of these events that exist, locked until the transaction ends."""
    return Bills(
        locked(
            connection,
            [
                {
                    "account_id": one.account_id,
                    "provider": one.call.provider,
                    "conversation_id": one.call.conversation_id,
                    "id": one.session_id,
                }
                for one in events
            ],
        )
    )


def locked(connection: Connection, wanted: Sequence[dict[str, Any]]) -> list[Bill]:
    """Sessions by `account_id` and `id`, or by `account_id`, `provider` and `conversation_id`, with their charges.

    Locked, in the order of their keys, until the transaction ends. Raises Conflict when one of them was charged by
    another process at this moment: try the transaction again.
    """
    return _found(connection, _LOCK, wanted)


def seen(connection: Connection, wanted: Sequence[dict[str, Any]]) -> list[Bill]:
    """The same as they are now, without locks: to look at, not to write back."""
    return _found(connection, _READ, wanted)


def _found(connection: Connection, statement: TextClause, wanted: Sequence[dict[str, Any]]) -> list[Bill]:
    connection.execute(_BY_INDEX)
    found: dict[tuple[str, int], list[RowMapping]] = {}
    for row in connection.execute(statement, {"wanted": msgspec.json.encode(wanted).decode()}).mappings():
        found.setdefault((row["account_id"], row["id"]), []).append(row)
    return [_bill(rows) for rows in found.values()]


def key_of(facts: Facts) -> ConversationKey:
    """What an event's session is known by."""
    return facts.account_id, facts.call.provider, facts.call.conversation_id


def _bill(rows: Sequence[RowMapping]) -> Bill:
    first = rows[0]
    session = Session(**{name: first[name] for name in COLUMNS})
    charge = tuple(sorted((_entry(row) for row in rows if row["l_sequence"] is not None), key=lambda one: one.part))
    if len(charge) != (session.charge_lines if session.charge_sequence else 0):
        # Who waits for a row's lock gets the row as it became, and the rows that it was joined with as they were.
        raise Conflict("a session of this batch was charged by another process; try again", code="session_contended")
    posted = None
    if session.terminal_ms is not None:
        # NULL is of a version that knew of no trust. What it charged is taken back for nothing less than a provider's
        # word; what it could not charge, anybody's may.
        unknown = TRUST_PROVIDER if charge else TRUST_KEY
        trust = unknown if session.terminal_trust is None else session.terminal_trust
        authority = Authority.of(
            rated=bool(charge), trust=trust, rank=session.terminal_rank or 0, accepted_at_ms=session.terminal_ms
        )
        posted = Posted(authority=authority, charge=charge, last=session.charge_sequence)
    return Bill(session, posted, session.counted(), is_new=False, entries=[])


def _entry(row: RowMapping) -> Entry:
    return Entry(
        kind="charge",
        sequence=row["l_sequence"],
        part=row["l_part"],
        line=row["l_line"],
        rate_card_id=row["l_rate_card_id"],
        started_at=row["l_started_at"],
        duration_seconds=row["l_duration_seconds"],
        billed_seconds=row["l_billed_seconds"],
        quantity=row["l_quantity"],
        unit_price=row["l_unit_price"],
        exact=row["l_exact"],
        amount=row["l_amount"],
        currency=row["l_currency"],
        steps=(),
        list_amount=row["l_list_amount"],
        reason=row["l_reason"],
        provider_cost_usd=row["l_provider_cost_usd"],
        template_id=row["l_template_id"],
        tag=row["l_tag"],
    )
