"""How much an account has of what every change of its configuration copies, and of what opens its API.

Whoever compares these with a limit holds the account's lock, so that no other change comes between.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, func, select

from relay.store.accounts import IN_FORCE
from relay.store.sessions import AWAITED
from relay.store.tables import api_keys, endpoints, sources, templates


def keys(connection: Connection, account_id: str) -> int:
    """API keys in force."""
    return _count(connection, api_keys, account_id, *IN_FORCE)


def own_endpoints(connection: Connection, account_id: str) -> int:
    """Endpoints that are not a template's, in any state: an event may go to all of them."""
    mine = (endpoints.c.deleted_at.is_(None), endpoints.c.template_id.is_(None))
    return _count(connection, endpoints, account_id, *mine)


def template_endpoints(connection: Connection, account_id: str, template_id: int) -> int:
    """Endpoints that a template has or had, and that are not closed yet."""
    its = (endpoints.c.deleted_at.is_(None), endpoints.c.template_id == template_id)
    return _count(connection, endpoints, account_id, *its)


def own_sources(connection: Connection, account_id: str) -> int:
    """Sources that customers made, disabled ones too."""
    return _count(connection, sources, account_id, sources.c.deleted_at.is_(None), sources.c.managed.is_(False))


def visible_templates(connection: Connection, account_id: str) -> int:
    """Templates that are listed."""
    return _count(connection, templates, account_id, templates.c.deleted_at.is_(None), templates.c.hidden.is_(False))


def awaited_templates(connection: Connection, account_id: str) -> int:
    """The same with those that were deleted so lately that events of their calls are still taken."""
    is_awaited = templates.c.deleted_at.is_(None) | (templates.c.deleted_at > func.now() - AWAITED)
    return _count(connection, templates, account_id, is_awaited, templates.c.hidden.is_(False))


def _count(connection: Connection, table: Table, account_id: str, *conditions: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(table).where(table.c.account_id == account_id, *conditions)
    return int(connection.execute(counted).scalar_one())
