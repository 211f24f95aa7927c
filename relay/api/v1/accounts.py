"""Accounts: one for each customer of the operator, and opened by the operator's key alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import AccountId, KeyId, Name, NewApiKey, ShownMoment, ShownName, absent
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.provisioning.checks import MAX_QUOTA_BYTES, MIN_QUOTA_BYTES
from relay.store import accounts, shown
from relay.store.accounts import Account as AccountRow

group = Group(OURS, tag="Accounts")

Quota = Annotated[
    int,
    Field(
        ge=MIN_QUOTA_BYTES,
        le=MAX_QUOTA_BYTES,
        description="Bytes of undelivered content that the account may hold; null: as the setting says.",
    ),
]


class NewAccount(Input):
    """An account to be made."""

    name: Name
    quota_bytes: Quota | None = None


class AccountChange(Input):
    """What is given is changed."""

    name: Name = absent()
    quota_bytes: Quota | None = None


class Account(Output):
    """An account. Its currency is that of its first rate card."""

    id: AccountId
    name: ShownName
    currency: str | None
    quota_bytes: int | None
    created_at: ShownMoment


class MadeAccount(Account):
    """An account with its first API key, which is shown this once, and that key's id."""

    key_id: KeyId
    api_key: NewApiKey


@group.operation("POST", "/api/v1/accounts", access=Access.OPERATE, body=NewAccount, answers={201: MadeAccount})
def create_account(call: Call[NewAccount, None]) -> MadeAccount:
    """Make an account.

    Its first API key may change things, and is shown this once.
    """
    made = call.provisioning.create_account(name=call.body.name, quota_bytes=call.body.quota_bytes)
    return MadeAccount.model_validate(shown.account(made.account) | {"keyId": made.key.id, "apiKey": made.key.key})


@group.operation("GET", "/api/v1/accounts", access=Access.OPERATE, query=PageQuery, answers={200: Page[Account]})
def list_accounts(call: Call[None, PageQuery]) -> Page[Account]:
    """List accounts, the oldest first."""
    with call.services.database.begin() as connection:
        rows = accounts.every(connection, after=call.query.after, limit=call.query.enough)
    return page(rows, call.query, _shown)


@group.operation("GET", "/api/v1/accounts/<id:account_id>", access=Access.OPERATE, answers={200: Account})
def get_account(call: Call[None, None], account_id: str) -> Account:
    """Show an account."""
    with call.services.database.begin() as connection:
        return _shown(accounts.get(connection, account_id))


@group.operation(
    "PATCH", "/api/v1/accounts/<id:account_id>", access=Access.OPERATE, body=AccountChange, answers={200: Account}
)
def update_account(call: Call[AccountChange, None], account_id: str) -> Account:
    """Change an account's name or quota."""
    return _shown(call.provisioning.update_account(account_id=account_id, **call.body.given()))


def _shown(row: AccountRow) -> Account:
    return Account.model_validate(shown.account(row))
