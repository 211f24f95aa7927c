"""What accounts may use with the operator's key: agents at ElevenLabs and Retell, and projects at Agora."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import ProviderName, ShownMoment
from relay.api.core.models import Output
from relay.api.core.operations import Call, Group
from relay.store import grants, shown
from relay.store.grants import Grant as GrantRow

group = Group(OURS, tag="Grants")

_EVERY: Final = "/api/v1/accounts/<id:account_id>/grants"
_ONE: Final = f"{_EVERY}/<provider>/<object_id>"


class Grant(Output):
    """What is granted: `objectId` is an agent's id, or a project's app id at Agora."""

    provider: ProviderName
    object_id: Annotated[str, Field(examples=["agent_7"])]
    created_at: ShownMoment


class Grants(Output):
    """All that an account is granted."""

    data: list[Grant]


@group.operation("GET", _EVERY, access=Access.OPERATE, answers={200: Grants})
def list_grants(call: Call[None, None], account_id: str) -> Grants:
    """List what an account may use with the operator's key."""
    with call.services.database.begin() as connection:
        rows = grants.of_account(connection, account_id=account_id)
    return Grants(data=[_shown(row) for row in rows])


@group.operation("PUT", _ONE, access=Access.OPERATE, answers={200: Grant}, errors=(409,))
def add_grant(call: Call[None, None], account_id: str, provider: str, object_id: str) -> Grant:
    """Let an account use an agent, or a project of Agora, with the operator's key.

    `provider` is `elevenlabs`, `retell` or `agora`. An agent is granted to one account: 409 `grant_taken` if it is
    another's. What was made here for an account needs no grant, nor does an account that has stored its own key.
    """
    return _shown(call.provisioning.add_grant(account_id=account_id, provider=provider, object_id=object_id))


@group.operation("DELETE", _ONE, access=Access.OPERATE, answers={204: None})
def remove_grant(call: Call[None, None], account_id: str, provider: str, object_id: str) -> None:
    """Take a grant back.

    No session is started with it any more; calls that are under way end by themselves.
    """
    call.provisioning.remove_grant(account_id=account_id, provider=provider, object_id=object_id)


def _shown(row: GrantRow) -> Grant:
    return Grant.model_validate(shown.grant(row))
