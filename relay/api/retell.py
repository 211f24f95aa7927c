"""Retell's own routes for web calls, for its own clients: with an API key of an account in the place of Retell's."""

from __future__ import annotations

from typing import Any, Final

from relay.agents.sessions import WebCallWish
from relay.api.core.access import Access
from relay.api.core.families import RETELL
from relay.api.core.operations import Answer, Call, Group
from relay.api.retell_models import NewWebCall, OpenedWebCall, RegisteredCall, ShownCall, call_fields
from relay.errors import NotFound
from relay.providers.rest.retell import WebCall, WebCallVersion
from relay.store import sessions
from relay.store.sessions import Session

group = Group(RETELL, tag="Retell")

# What a call to Retell may come to, besides what every operation may.
_ERRORS: Final = (402, 404, 409, 502)


@group.operation(
    "POST",
    "/v3/create-web-call",
    access=Access.WRITE,
    body=NewWebCall,
    answers={201: OpenedWebCall},
    errors=_ERRORS,
    is_slow=True,
)
def create_web_call(call: Call[NewWebCall, None]) -> Answer:
    """Begin a web call with an agent of one of the account's templates, for Retell's web client 3.x.

    It begins at Retell, with the account's own key where it has stored one, and is a session of the account
    (`Switchhook-Session`). Every other agent is not found.
    """
    session, made = _begun(call, version=3)
    return _answer(session, OpenedWebCall.of(made))


@group.operation(
    "POST",
    "/v2/create-web-call",
    access=Access.WRITE,
    body=NewWebCall,
    answers={201: RegisteredCall},
    errors=_ERRORS,
    is_slow=True,
)
def create_web_call_by_its_older_path(call: Call[NewWebCall, None]) -> Answer:
    """Begin a web call by the path of older clients, for Retell's web client 2.x."""
    session, made = _begun(call, version=2)
    return _answer(session, RegisteredCall.begun(session, made))


@group.operation("GET", "/v2/get-call/<call_id>", access=Access.READ, answers={200: ShownCall})
def get_call(call: Call[None, None], call_id: str) -> ShownCall:
    """Get a call: its state, its times and its duration, and nothing that was said."""
    if "\x00" in call_id:
        raise NotFound("this account has no call by this id")
    with call.services.database.begin() as connection:
        row = sessions.of_conversation(
            connection, account_id=call.account_id, provider="retell", conversation_id=call_id
        )
    return ShownCall.model_validate(call_fields(row, call_id=call_id))


def _begun(call: Call[NewWebCall, None], *, version: WebCallVersion) -> tuple[Session, WebCall]:
    body = call.body
    wish = WebCallWish(
        metadata=body.metadata,
        variables=body.retell_llm_dynamic_variables or {},
        more=body.more,
        version=version,
    )
    return call.services.sessions.start_web_call(account_id=call.account_id, agent_id=body.agent_id, wish=wish)


def _answer(session: Session, shown: Any) -> Answer:
    return Answer(shown, 201, headers={"Switchhook-Session": str(session.id)})
