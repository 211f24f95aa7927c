"""API keys of the account."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import GivenMoment, KeyId, Name, NewApiKey, ShownMoment, ShownName
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.store import accounts, shown
from relay.store.accounts import ApiKey

group = Group(OURS, tag="API keys")

Permissions = Literal["read", "write"]


class NewKey(Input):
    """A key to be made. One that expires stops working then, by itself."""

    permissions: Permissions
    name: Name | None = None
    expires_at: GivenMoment | None = None


class Key(Output):
    """A key: enough of it to recognise it by. When it was used last is known to the minute."""

    id: KeyId
    prefix: Annotated[str, Field(examples=["sk_live_1HT4"])]
    name: ShownName | None
    permissions: Permissions
    created_at: ShownMoment
    expires_at: ShownMoment | None
    last_used_at: ShownMoment | None
    revoked_at: ShownMoment | None


class MadeKey(Key):
    """A key with itself, which is shown this once."""

    key: NewApiKey


@group.operation("POST", "/api/v1/keys", access=Access.WRITE, body=NewKey, answers={201: MadeKey})
def create_key(call: Call[NewKey, None]) -> MadeKey:
    """Make an API key.

    `key` is shown this once; only its hash is kept.
    """
    body = call.body
    made = call.provisioning.create_key(
        account_id=call.account_id,
        name=body.name,
        can_write=body.permissions == "write",
        expires_at=body.expires_at,
    )
    return MadeKey.model_validate(shown.api_key(made.row) | {"key": made.key})


@group.operation("GET", "/api/v1/keys", access=Access.READ, query=PageQuery, answers={200: Page[Key]})
def list_keys(call: Call[None, PageQuery]) -> Page[Key]:
    """List the account's API keys, revoked ones too, the oldest first."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = accounts.keys(connection, account_id=call.account_id, after=query.after, limit=query.enough)
    return page(rows, query, _shown)


@group.operation("DELETE", "/api/v1/keys/<id:key_id>", access=Access.WRITE, answers={204: None}, errors=(409,))
def revoke_key(call: Call[None, None], key_id: str) -> None:
    """Revoke an API key.

    The account's last key that may change things stays (409): nobody could make another one.
    """
    call.provisioning.revoke_key(account_id=call.account_id, key_id=key_id)


def _shown(row: ApiKey) -> Key:
    return Key.model_validate(shown.api_key(row))
