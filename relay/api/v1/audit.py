"""The audit trail of the account: who changed what, and when."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import GivenMoment, ShownMoment
from relay.api.core.models import Output, Query
from relay.api.core.operations import Call, Group
from relay.api.core.pages import USUAL, Cursor, Limit, Page, page
from relay.store import audit, shown
from relay.store.audit import AuditRow

group = Group(OURS, tag="Audit")

Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class AuditQuery(Query):
    """Which changes."""

    action: Annotated[Word | None, Field(description="Only such: `endpoint.updated`.")] = None
    object_id: Annotated[Word | None, Field(description="Only changes of this object.")] = None
    since: Annotated[GivenMoment | None, Field(description="Only from this moment on.")] = None
    limit: Limit = USUAL
    cursor: Cursor | None = None


class Change(Output):
    """One change. The digests are SHA-256 (hex) of the object as the API shows it, with its keys in order; null where
    there was or is none. A change of a secret shows in its action alone."""

    at: ShownMoment
    actor: Annotated[str, Field(examples=["key_4t3cq5xw2nd7m6s3nfvhzb5fne"])]
    action: Annotated[str, Field(examples=["endpoint.updated"])]
    object_id: Annotated[str, Field(examples=["ep_dg6uwlgwynv4k5nmcg7f5sejuy"])]
    before_sha256: Annotated[str | None, Field(alias="before")]
    after_sha256: Annotated[str | None, Field(alias="after")]


@group.operation("GET", "/api/v1/audit", access=Access.READ, query=AuditQuery, answers={200: Page[Change]})
def list_changes(call: Call[None, AuditQuery]) -> Page[Change]:
    """List the changes that were made to the account, the newest first.

    `actor` is the id of an API key, `operator`, `cli` or `upkeep`. Nothing can be taken out of this list.
    """
    query = call.query
    with call.services.database.begin() as connection:
        rows = audit.page(
            connection,
            account_id=call.account_id,
            action=query.action,
            object_id=query.object_id,
            since=query.since,
            before=cursors.read(query.cursor, int),
            limit=query.limit + 1,
        )
    return page(rows, query, _shown, place=lambda row: row.id)


def _shown(row: AuditRow) -> Change:
    return Change.model_validate(shown.change(row))
