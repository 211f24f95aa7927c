"""How much one account may have. Each number is far above what a customer needs, and below what others would notice.

Every change of an account's configuration is copied to Redis as a whole, while Redis does nothing else: some 20 ms for
a thousand templates. Every event goes to each endpoint that takes it. The checks need the account's lock.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from relay.errors import Conflict
from relay.store import counts

# For the whole account and for sources: an event may become as many deliveries.
MAX_ENDPOINTS: Final = 100
MAX_SOURCES: Final = 100
MAX_TEMPLATES: Final = 1000
# A deleted template is copied for another week: whoever makes one for each call has some 450 a day.
MAX_AWAITED_TEMPLATES: Final = 4000
# A template that gave up its URL has another endpoint the next time; the old one is closed a week later.
MAX_ENDPOINTS_OF_TEMPLATE: Final = 10
# Each has a limit of its own for requests.
MAX_KEYS: Final = 50


def check_endpoints(connection: Connection, account_id: str) -> None:
    """Room for another endpoint. Raises Conflict `too_many_endpoints`."""
    if counts.own_endpoints(connection, account_id) >= MAX_ENDPOINTS:
        text = f"an account may have {MAX_ENDPOINTS} endpoints besides those of templates; delete one first"
        raise Conflict(text, code="too_many_endpoints")


def check_template_endpoints(connection: Connection, account_id: str, template_id: int) -> None:
    """Room for another endpoint of this template. Raises Conflict `too_many_endpoints`."""
    if counts.template_endpoints(connection, account_id, template_id) >= MAX_ENDPOINTS_OF_TEMPLATE:
        text = f"this template has given up {MAX_ENDPOINTS_OF_TEMPLATE} endpoints lately; delete one of those first"
        raise Conflict(text, code="too_many_endpoints", field="clientWebhookUrl")


def check_sources(connection: Connection, account_id: str) -> None:
    """Room for another source. Raises Conflict `too_many_sources`."""
    if counts.own_sources(connection, account_id) >= MAX_SOURCES:
        raise Conflict(f"an account may have {MAX_SOURCES} sources; delete one first", code="too_many_sources")


def check_templates(connection: Connection, account_id: str) -> None:
    """Room for another template. Raises Conflict `too_many_templates`."""
    if counts.visible_templates(connection, account_id) >= MAX_TEMPLATES:
        raise Conflict(f"an account may have {MAX_TEMPLATES} templates; delete one first", code="too_many_templates")
    if counts.awaited_templates(connection, account_id) >= MAX_AWAITED_TEMPLATES:
        text = (
            f"an account may have {MAX_AWAITED_TEMPLATES} templates with those that were deleted in the last week; "
            "change a template rather than making it anew"
        )
        raise Conflict(text, code="too_many_templates")


def check_keys(connection: Connection, account_id: str) -> None:
    """Room for another API key. Raises Conflict `too_many_keys`."""
    if counts.keys(connection, account_id) >= MAX_KEYS:
        raise Conflict(f"an account may have {MAX_KEYS} API keys in force; revoke one first", code="too_many_keys")
