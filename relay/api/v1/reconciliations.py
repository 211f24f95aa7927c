"""What each day had here and at the providers: for the operator, who pays the one and is paid by the other."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field, StringConstraints

from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import AccountId, GivenDay, ProviderName, ShownMoment, ShownMoney
from relay.api.core.models import Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.errors import BadRequest
from relay.store import accounts, reconciliations, shown
from relay.store.reconciliations import Reconciliation as Row

group = Group(OURS, tag="Reconciliation")

_Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ReconciliationsQuery(PageQuery):
    """Which days."""

    account: Annotated[_Word | None, Field(description="Only of this account.")] = None
    provider: Annotated[_Word | None, Field(description="Only at this provider.")] = None
    since: Annotated[GivenDay | None, Field(alias="from", description="From this day (UTC) on.")] = None
    until: Annotated[GivenDay | None, Field(alias="to", description="Only days before this one.")] = None


class Reconciliation(Output):
    """One day (UTC) of one account at one provider. `sessions`, `durationSeconds` and `amount` are what we know and
    have charged; those of `provider` what it lists. `found` of them nobody had told us of. `margin` is `amount` beyond
    the provider's own cost, where both are in US dollars."""

    account_id: AccountId
    provider: ProviderName
    day: Annotated[str, Field(examples=["2026-10-31"])]
    sessions: int
    provider_sessions: int
    found: int
    duration_seconds: Annotated[str, Field(examples=["5460"])]
    provider_duration_seconds: Annotated[str, Field(examples=["5460"])]
    amount: ShownMoney
    currency: Annotated[str, Field(examples=["USD"])] | None
    provider_cost_usd: ShownMoney | None
    margin: ShownMoney | None
    differs: bool
    checked_at: ShownMoment


@group.operation(
    "GET",
    "/api/v1/reconciliations",
    access=Access.OPERATE,
    query=ReconciliationsQuery,
    answers={200: Page[Reconciliation]},
    errors=(404,),
)
def list_reconciliations(call: Call[None, ReconciliationsQuery]) -> Page[Reconciliation]:
    """List what days came to here and at the providers, the newest first.

    A day is compared three hours after it is over; until then only what was `found` of it is there. 404 for an
    `account` that does not exist.
    """
    query = call.query
    if query.since is not None and query.until is not None and query.until <= query.since:
        raise BadRequest("to must be after from", code="range_empty", field="to")
    with call.services.database.begin() as connection:
        accounts.check(connection, query.account)
        rows = reconciliations.page(
            connection,
            account_id=query.account,
            provider=query.provider,
            since=query.since,
            until=query.until,
            after=cursors.read(query.cursor, tuple[date, str, str]),
            limit=query.enough,
        )
    return page(rows, query, _shown, place=lambda row: (row.day, row.account_id, row.provider))


def _shown(row: Row) -> Reconciliation:
    return Reconciliation.model_validate(shown.reconciliation(row))
