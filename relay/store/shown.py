"""What the API shows of each object, as plain JSON: never a secret, nor a hash of one.

The audit trail takes its digests of this, so that whoever has an answer can find the change that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from relay.store.accounts import Account, ApiKey
from relay.store.audit import AuditRow
from relay.store.budgets import Budget
from relay.store.charges import Charge
from relay.store.conversations import Conversation, public_id
from relay.store.deliveries import Attempt, Delivery
from relay.store.endpoints import Endpoint
from relay.store.exports import Customer
from relay.store.grants import Grant
from relay.store.provider_keys import ProviderKey
from relay.store.rate_cards import RateCardRow
from relay.store.reconciliations import Reconciliation
from relay.store.sessions import Session
from relay.store.sources import Source
from relay.store.templates import Template

Shown = dict[str, Any]

# What failed so looks alike whatever the address is: how long it took would tell a filtered one from a closed one.
_TIMELESS: Final = "unreachable"

# What customers write about an agent, with what holds where they write nothing (CanaryLLM's OpenAPI).
_TEMPLATE_CONFIG: Final[Shown] = {
    "description": None,
    "systemPrompt": "",
    "firstMessage": None,
    "voiceId": None,
    "voiceModel": None,
    "voiceSettings": None,
    "language": "en",
    "languagePresets": None,
    "llmProvider": None,
    "llmModel": None,
    "maxDurationSeconds": 600,
    "tag": None,
    "tools": [{"name": "end_call"}],
    "questions": [],
    "successCriteria": [],
    "dataCollection": [],
}


def account(row: Account) -> Shown:
    """An account."""
    return {
        "id": row.id,
        "name": row.name,
        "currency": row.currency,
        "quotaBytes": row.quota_bytes,
        "createdAt": moment(row.created_at),
    }


def api_key(row: ApiKey) -> Shown:
    """An API key: enough of it to recognise it by."""
    return {
        "id": row.id,
        "prefix": row.prefix,
        "name": row.name,
        "permissions": "write" if row.can_write else "read",
        "createdAt": moment(row.created_at),
        "expiresAt": moment(row.expires_at),
        "lastUsedAt": moment(row.last_used_at),
        "revokedAt": moment(row.revoked_at),
    }


def unused_key(row: ApiKey) -> Shown:
    """An API key as the audit has it: that it was used is no change of it."""
    return {name: value for name, value in api_key(row).items() if name != "lastUsedAt"}


def source(row: Source, *, url: str) -> Shown:
    """A source; `url` is what the provider has to be given."""
    return {
        "id": row.id,
        "provider": row.provider,
        "name": row.name,
        "url": url,
        "enabled": row.disabled_at is None,
        "managed": row.managed,
        "createdAt": moment(row.created_at),
        "disabledAt": moment(row.disabled_at),
    }


def endpoint(row: Endpoint) -> Shown:
    """An endpoint. Of its own headers only the names: what such headers are for is mostly secret."""
    return {
        "id": row.id,
        "url": row.url,
        "state": row.state,
        "events": list(row.filters),
        "headerNames": list(row.headers),
        "signing": row.signing,
        "deadlineSeconds": row.deadline_seconds,
        "retentionHours": row.retention_hours,
        "failureWhen": row.failure_when,
        "operations": row.operations,
        "sourceId": row.source_id,
        "templateId": row.template_id,
        "createdAt": moment(row.created_at),
        "disabledAt": moment(row.disabled_at),
        "overlapUntil": moment(row.overlap_until),
    }


def template(row: Template) -> Shown:
    """A template, in CanaryLLM's words. A header has null for its value: what such headers are for is mostly secret."""
    headers = row.delivery_headers
    return {
        "id": row.id,
        "name": row.name,
        "type": row.type,
        **{name: row.config.get(name, default) for name, default in _TEMPLATE_CONFIG.items()},
        "clientWebhookUrl": row.client_webhook_url,
        "relayPublicKey": None,
        "provider": row.provider,
        "agentId": row.agent_id,
        "endpointId": row.endpoint_id,
        "contentRetention": row.content_retention_hours,
        "deliveryHeaders": None if headers is None else dict.fromkeys(headers),
        "signing": row.signing,
        "deadlineSeconds": row.deadline_seconds,
        "rateCard": row.rate_card_id,
        "createdAt": moment(row.created_at),
        "updatedAt": moment(row.updated_at),
    }


def rate_card(row: RateCardRow) -> Shown:
    """A rate card: money as text, in `currency`."""
    return {
        "id": row.id,
        "perMinute": _money(row.per_minute),
        "currency": row.currency,
        "increments": f"{row.initial_seconds}/{row.increment_seconds}",
        "connectFee": _money(row.connect_fee),
        "freeSeconds": row.free_seconds,
        "minCharge": None if row.min_charge is None else _money(row.min_charge),
        "maxCharge": None if row.max_charge is None else _money(row.max_charge),
        "decimals": row.decimals,
        "rounding": row.rounding,
        "components": _components(row.components),
        "markup": None if row.markup is None else _money(row.markup),
        "monthPrice": None if row.month_price is None else dict(row.month_price),
        "from": moment(row.effective_from),
        "offered": row.offered,
        "templateId": row.template_id,
        "tag": row.tag,
        "createdAt": moment(row.created_at),
    }


def budget(row: Budget) -> Shown:
    """A budget, without how it stands: that it is spent is no change of it."""
    return {
        "id": row.id,
        "tag": row.tag,
        "amount": _money(row.amount),
        "thresholds": list(row.thresholds),
        "hardLimit": row.hard_limit,
        "createdAt": moment(row.created_at),
        "updatedAt": moment(row.updated_at),
    }


def session(row: Session) -> Shown:
    """A session: seconds as numbers, the cost as text in `currency`. What it cost us at the provider is ours."""
    return {
        "id": row.id,
        "provider": row.provider,
        "conversationId": row.conversation_id,
        "templateId": row.template_id,
        "agentId": row.agent_id,
        "status": row.status,
        "failureCode": row.failure_code,
        "livemode": row.livemode,
        "textOnly": row.text_only,
        "metadata": row.metadata,
        "startedAt": moment(row.started_at),
        "endedAt": moment(row.ended_at),
        "durationSeconds": row.duration_seconds,
        "turnCount": row.turn_count,
        "billedSeconds": row.billed_seconds,
        "cost": None if row.cost is None else _money(row.cost),
        "listCost": None if row.list_cost is None else _money(row.list_cost),
        "waivedReason": row.waived_reason,
        "currency": row.currency,
        "unratedReason": row.unrated_reason,
        "rateCardId": row.rate_card_id,
        "tag": row.tag,
        "createdAt": moment(row.created_at),
        "completedAt": moment(row.completed_at),
        "contentErasedAt": moment(row.content_erased_at),
        "deliveries": f"/api/v1/deliveries?sessionId={row.id}",
    }


def canary_session(row: Session) -> Shown:
    """A session in CanaryLLM's words, with its bill: the duration in seconds, the cost as a number."""
    return {
        "id": row.id,
        "templateId": row.template_id,
        "status": row.status,
        "metadata": row.metadata,
        "createdAt": moment(row.created_at),
        "completedAt": moment(row.completed_at),
        "provider": row.provider,
        "conversationId": row.conversation_id,
        "textOnly": row.text_only,
        "duration": row.duration_seconds,
        "billedSeconds": row.billed_seconds,
        "cost": None if row.cost is None else float(row.cost),
        "currency": row.currency,
        "unratedReason": row.unrated_reason,
        "failureCode": row.failure_code,
    }


def delivery(row: Delivery) -> Shown:
    """A delivery, without its attempts."""
    return {
        "eventId": row.event_id,
        "endpointId": row.endpoint_id,
        "type": row.type,
        "sessionId": row.session_id,
        "conversationId": row.conversation_id,
        "livemode": row.livemode,
        "status": row.status,
        "code": row.code,
        "attempts": row.attempts,
        "nextAttemptAt": moment(row.next_attempt_at),
        "acceptedAt": moment(row.accepted_at),
        "settledAt": moment(row.settled_at),
    }


def attempt(row: Attempt) -> Shown:
    """An attempt as tenants may see it: neither the operators' detail, nor how long it took to reach nothing."""
    return {
        "number": row.number,
        "at": moment(row.at),
        "httpStatus": row.http_status,
        "code": row.code,
        "durationMs": None if row.code == _TIMELESS else row.duration_ms,
        "responseBytes": row.response_bytes,
    }


def conversation(row: Conversation) -> Shown:
    """A conversation without a template, in the words of its clients: how it is to be held, and how it stands."""
    session = row.session
    return {
        "session_id": public_id(session.id),
        "status": session.status,
        "created_at": moment(session.created_at),
        "started_at": moment(session.started_at),
        "ended_at": moment(session.ended_at),
        "deleted_at": moment(session.deleted_at),
        "configuration": row.config["conversation"],
        "agent_id": row.agent_id,
        "turn_count": session.turn_count,
    }


def provider_key(row: ProviderKey) -> Shown:
    """That an account has a key of its own at a provider."""
    return {"provider": row.provider, "createdAt": moment(row.created_at)}


def grant(row: Grant) -> Shown:
    """What an account may use with the operator's key at a provider."""
    return {"provider": row.provider, "objectId": row.object_id, "createdAt": moment(row.created_at)}


def export(row: Customer) -> Shown:
    """What an account is called at a billing system."""
    return {
        "destination": row.destination,
        "customer": row.customer,
        "createdAt": moment(row.created_at),
    }


def change(row: AuditRow) -> Shown:
    """A row of the audit trail, with its digests in hex."""
    return {
        "at": moment(row.at),
        "actor": row.actor,
        "action": row.action,
        "objectId": row.object_id,
        "before": None if row.before_sha256 is None else row.before_sha256.hex(),
        "after": None if row.after_sha256 is None else row.after_sha256.hex(),
    }


def charge(row: Charge) -> Shown:
    """A row of the ledger, with all that its amount follows from."""
    return {
        "id": row.id,
        "kind": row.kind,
        "line": row.line,
        "provider": row.provider,
        "conversationId": row.conversation_id,
        "sequence": row.sequence,
        "part": row.part,
        "sessionId": row.session_id,
        "templateId": row.template_id,
        "tag": row.tag,
        "rateCardId": row.rate_card_id,
        "startedAt": moment(row.started_at),
        "durationSeconds": row.duration_seconds,
        "billedSeconds": row.billed_seconds,
        "quantity": _exact(row.quantity),
        "unitPrice": _money(row.unit_price),
        "exact": _exact(row.exact),
        "amount": _money(row.amount),
        "listAmount": None if row.list_amount is None else _money(row.list_amount),
        "currency": row.currency,
        "reason": row.reason,
        "steps": list(row.steps),
        "period": f"{row.period:%Y-%m}",
        "reference": row.reference,
        "createdAt": moment(row.created_at),
    }


def reconciliation(row: Reconciliation) -> Shown:
    """What a day came to here and at its provider: exact numbers as text."""
    return {
        "accountId": row.account_id,
        "provider": row.provider,
        "day": row.day.isoformat(),
        "sessions": row.sessions,
        "providerSessions": row.provider_sessions,
        "found": row.found,
        "durationSeconds": _exact(row.duration_seconds),
        "providerDurationSeconds": _exact(row.provider_duration_seconds),
        "amount": _money(row.amount),
        "currency": row.currency or None,
        "providerCostUsd": None if row.provider_cost_usd is None else _money(row.provider_cost_usd),
        "margin": None if row.margin is None else _money(row.margin),
        "differs": row.differs,
        "checkedAt": moment(row.checked_at),
    }


def moment(at: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds: `2026-02-11T12:05:00.000Z`."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _components(prices: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if prices is None else {name: _money(Decimal(prices[name])) for name in sorted(prices)}


def _money(amount: Decimal) -> str:
    """An amount as it was given: without the zeros that its column fills it up with, and never with an exponent."""
    whole, _, fraction = format(amount, "f").partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def _exact(number: Decimal) -> str:
    """Every digit of a number that counts."""
    whole, point, fraction = format(number, "f").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{point}{fraction}" if fraction else whole
