"""What is checked of the values that a customer gives, before anything is stored. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UnsetType

from relay.calls import MAX_FACT_CHARS, SWITCHHOOK
from relay.delivery.failurewhen import checked_path
from relay.delivery.signing import signing_key
from relay.errors import BadRequest
from relay.providers import PROVIDERS

MAX_NAME_CHARS: Final = 255
MAX_SECRET_CHARS: Final = 255
MAX_SECRETS: Final = 8
MAX_FILTERS: Final = 64
# What types of events begin with: recordings' are Canonical's, CanaryLLM's are ElevenLabs'.
EVENT_PROVIDERS: Final = tuple(sorted({*PROVIDERS, "canonical"}))
MAX_DEADLINE_SECONDS: Final = 20
MAX_RETENTION_HOURS: Final = 24 * 30
MAX_OVERLAP_HOURS: Final = 24 * 7
_KIND: Final = re.compile(r"[A-Za-z0-9_.*?-]+")
# All that is said about an agent: fifty questions of CanaryLLM's largest, and the rest beside them.
MAX_CONFIG_BYTES: Final = 256 * 1024
# As much as the setting allows for all.
MIN_QUOTA_BYTES: Final = 1024
MAX_QUOTA_BYTES: Final = 1024**5


def checked_text(value: str, field: str, most: int) -> None:
    """Raises BadRequest naming the field for what is empty, too long or not printable."""
    if not value.strip() or len(value) > most or not value.isprintable():
        raise BadRequest(f"{field} must be 1 to {most} printable characters", field=field)


def checked_source_secrets(secrets: Sequence[str], *, field: str = "secret") -> None:
    """At least one secret of the provider's, each printable."""
    if not 1 <= len(secrets) <= MAX_SECRETS:
        raise BadRequest(f"a source needs the provider's signing secret, and at most {MAX_SECRETS}", field=field)
    for secret in secrets:
        checked_text(secret, field, MAX_SECRET_CHARS)


def checked_secrets(webhook_secret: str | None, signing_secret: str | None) -> None:
    """An endpoint's secrets where they are given: what goes into a header, and a key of Standard Webhooks 1.0."""
    if webhook_secret is not None:
        checked_text(webhook_secret, "webhookSecret", MAX_SECRET_CHARS)
        if not webhook_secret.isascii():
            raise BadRequest("webhookSecret goes into a header: ASCII only", field="webhookSecret")
    if signing_secret is not None:
        try:
            size = len(signing_key(signing_secret))
        except ValueError:
            size = 0
        if not 24 <= size <= 64:  # Standard Webhooks 1.0
            raise BadRequest("signingSecret must be whsec_ and base64 of 24 to 64 bytes", field="signingSecret")


def checked_delivery(
    *,
    filters: Sequence[str] | UnsetType,
    deadline_seconds: int | UnsetType,
    retention_hours: int | UnsetType | None,
    failure_when: str | UnsetType | None,
) -> None:
    """What an endpoint asks of its deliveries, where it is given."""
    if isinstance(deadline_seconds, int):
        checked_range(deadline_seconds, "deadlineSeconds", 1, MAX_DEADLINE_SECONDS)
    if isinstance(retention_hours, int):
        checked_range(retention_hours, "retentionHours", 0, MAX_RETENTION_HOURS)
    if isinstance(failure_when, str):
        checked_path(failure_when)
    if not isinstance(filters, UnsetType):
        if len(filters) > MAX_FILTERS:
            raise BadRequest(f"events must be at most {MAX_FILTERS}", field="events")
        for pattern in filters:
            _check_filter(pattern)


def _check_filter(pattern: str) -> None:
    """`*`, or types of one provider that there is: a filter that nothing can ever match is a typing error."""
    provider, dot, kind = pattern.partition(".")
    is_known = provider in (*EVENT_PROVIDERS, SWITCHHOOK) and dot and _KIND.fullmatch(kind)
    if pattern != "*" and not (is_known and len(pattern) <= MAX_FACT_CHARS):
        text = f"events are * or types of {', '.join(EVENT_PROVIDERS)}: {EVENT_PROVIDERS[-1]}.* or one by its name"
        raise BadRequest(text, field="events")


def checked_kinds(filters: Sequence[str], *, operations: bool) -> tuple[str, ...]:
    """These filters. Our own events are for endpoints with operations, and those take no others.

    `*` is all that an endpoint may: with operations that is `switchhook.*`, because a version that knows of no
    operations goes by the filters alone.
    """
    for pattern in filters:
        if pattern != "*" and (pattern.partition(".")[0] == SWITCHHOOK) is not operations:
            if operations:
                raise BadRequest(f"an endpoint for operations takes {SWITCHHOOK}.* and no calls", field="events")
            raise BadRequest(f"{SWITCHHOOK}.* is for endpoints with operations", field="events")
    if operations:
        return tuple(f"{SWITCHHOOK}.*" if pattern == "*" else pattern for pattern in filters)
    return tuple(filters)


def checked_config(config: Mapping[str, Any]) -> None:
    """A template's `config` as JSON. Raises BadRequest `template_too_large` naming its largest field."""
    sizes = {name: len(msgspec.json.encode(value)) for name, value in config.items()}
    if sum(sizes.values()) > MAX_CONFIG_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        text = (
            f"a template may have {MAX_CONFIG_BYTES // 1024} KiB in all, and this one would have "
            f"{sum(sizes.values()) // 1024}; {largest} has the most, {sizes[largest] // 1024}"
        )
        raise BadRequest(text, code="template_too_large", field=largest)


def checked_range(value: int, field: str, lowest: int, highest: int) -> None:
    """A whole number within its bounds."""
    if not lowest <= value <= highest:
        raise BadRequest(f"{field} must be from {lowest} to {highest}", field=field)
