"""Endpoints: where the account takes its deliveries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import (
    EndpointId,
    EventId,
    NewSigningSecret,
    NewWebhookSecret,
    Secret,
    ShownMoment,
    ShownUrl,
    SourceId,
    Url,
    absent,
    left_out,
)
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.calls import MAX_FACT_CHARS
from relay.delivery.failurewhen import MAX_PATH_CHARS
from relay.delivery.headers import MAX_HEADERS
from relay.provisioning.checks import MAX_DEADLINE_SECONDS, MAX_FILTERS, MAX_OVERLAP_HOURS, MAX_RETENTION_HOURS
from relay.store import endpoints, shown
from relay.store.endpoints import DEADLINE_SECONDS
from relay.store.endpoints import Endpoint as EndpointRow
from relay.trial import trial_of

group = Group(OURS, tag="Endpoints")

_ENDPOINT = "/api/v1/endpoints/<id:endpoint_id>"

Filter = Annotated[str, StringConstraints(min_length=1, max_length=MAX_FACT_CHARS)]
Filters = Annotated[
    list[Filter],
    Field(
        min_length=1,
        max_length=MAX_FILTERS,
        description="Types of events: `*`, or a provider's: `retell.*`, `retell.call_analyzed`. With `operations`: "
        "`switchhook.*`, `switchhook.budget.alert`.",
    ),
]
Headers = Annotated[
    dict[str, str],
    Field(max_length=MAX_HEADERS, description="Sent with every delivery; their values are not shown again."),
]
Signing = Literal["standard", "provider"]
Deadline = Annotated[int, Field(ge=1, le=MAX_DEADLINE_SECONDS, description="For one attempt in all.")]
Retention = Annotated[
    int,
    Field(ge=0, le=MAX_RETENTION_HOURS, description="How long content may wait; 0: one attempt; null: the setting."),
]
FailureWhen = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_PATH_CHARS),
    Field(description="A 2xx answer with a value here is a failed attempt: `$.error`."),
]
Operations = Annotated[
    bool,
    Field(description="It hears of the account's budgets and statements, `switchhook.*`, and of none of its calls."),
]


class NewEndpoint(Input):
    """An endpoint to be made: of a source if `sourceId` is given, else for the whole account."""

    url: Url
    events: Filters = Field(default=["*"])
    headers: Headers = Field(default={})
    webhook_secret: Secret | None = None
    signing_secret: Secret | None = None
    signing: Signing = "standard"
    deadline_seconds: Deadline = DEADLINE_SECONDS
    retention_hours: Retention | None = None
    failure_when: FailureWhen | None = None
    operations: Operations = False
    source_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class EndpointChange(Input):
    """What is given is changed; `events` and `headers` are replaced as a whole."""

    url: Url = absent()
    events: Filters = absent()
    headers: Headers = absent()
    signing: Signing = absent()
    deadline_seconds: Deadline = absent()
    retention_hours: Retention | None = None
    failure_when: FailureWhen | None = None
    operations: Operations = absent()


class Rotation(Input):
    """How secrets change. With `webhookSecret` that one is replaced as well, at once."""

    overlap_hours: Annotated[int, Field(ge=0, le=MAX_OVERLAP_HOURS)] = 24
    webhook_secret: bool = False


class Endpoint(Output):
    """An endpoint. `overlapUntil` is how long the signing secret before the newest still signs beside it."""

    id: EndpointId
    url: ShownUrl
    state: Literal["active", "disabled", "gone"]
    events: list[Annotated[str, Field(examples=["retell.call_analyzed"])]]
    header_names: list[Annotated[str, Field(examples=["X-Tenant"])]]
    signing: Signing
    deadline_seconds: int
    retention_hours: int | None
    failure_when: Annotated[str, Field(examples=["$.error"])] | None
    operations: bool
    source_id: SourceId | None
    template_id: int | None
    created_at: ShownMoment
    disabled_at: ShownMoment | None
    overlap_until: ShownMoment | None


class MadeEndpoint(Endpoint):
    """An endpoint with its secrets, which are shown this once."""

    webhook_secret: NewWebhookSecret
    signing_secret: NewSigningSecret


class RotatedEndpoint(Endpoint):
    """An endpoint with the secrets that were made just now, which are shown this once."""

    signing_secret: NewSigningSecret
    webhook_secret: NewWebhookSecret | None = left_out("If it was replaced too.")


class TestEvent(Output):
    """The `webhook-id` of the delivery that is on its way."""

    __test__ = False  # pytest takes it for a class of tests

    id: EventId


@group.operation(
    "POST",
    "/api/v1/endpoints",
    access=Access.WRITE,
    body=NewEndpoint,
    answers={201: MadeEndpoint},
    errors=(404,),
    is_slow=True,
)
def create_endpoint(call: Call[NewEndpoint, None]) -> MadeEndpoint:
    """Make an endpoint.

    `url` must be a public address. The secrets are generated unless they are given, and shown this once.
    """
    return made_endpoint(call.provisioning.create_endpoint(account_id=call.account_id, **_given(call.body)))


@group.operation("GET", "/api/v1/endpoints", access=Access.READ, query=PageQuery, answers={200: Page[Endpoint]})
def list_endpoints(call: Call[None, PageQuery]) -> Page[Endpoint]:
    """List the account's endpoints, those of templates and sources too, the oldest first."""
    query, services = call.query, call.services
    with services.database.begin() as connection:
        rows = endpoints.of_account(
            connection, services.ring, account_id=call.account_id, after=query.after, limit=query.enough
        )
    return page(rows, query, _shown)


@group.operation("GET", _ENDPOINT, access=Access.READ, answers={200: Endpoint})
def get_endpoint(call: Call[None, None], endpoint_id: str) -> Endpoint:
    """Show an endpoint."""
    services = call.services
    with services.database.begin() as connection:
        row = endpoints.get(connection, services.ring, account_id=call.account_id, endpoint_id=endpoint_id)
    return _shown(row)


@group.operation(
    "PATCH", _ENDPOINT, access=Access.WRITE, body=EndpointChange, answers={200: Endpoint}, errors=(409,), is_slow=True
)
def update_endpoint(call: Call[EndpointChange, None], endpoint_id: str) -> Endpoint:
    """Change an endpoint.

    What already waits goes to the new URL. How long the content of a template is kept is changed there, as
    `contentRetention` (409).
    """
    changed = call.provisioning.update_endpoint(
        account_id=call.account_id, endpoint_id=endpoint_id, **_given(call.body)
    )
    return _shown(changed)


@group.operation("DELETE", _ENDPOINT, access=Access.WRITE, answers={204: None}, errors=(409,))
def delete_endpoint(call: Call[None, None], endpoint_id: str) -> None:
    """Delete an endpoint.

    What waits for it ends as dead, `endpoint_gone`; records of its deliveries stay. The endpoint that a template sends
    to goes with the template's `clientWebhookUrl` (409).
    """
    call.provisioning.delete_endpoint(account_id=call.account_id, endpoint_id=endpoint_id)


@group.operation("POST", f"{_ENDPOINT}/enable", access=Access.WRITE, answers={200: Endpoint})
def enable_endpoint(call: Call[None, None], endpoint_id: str) -> Endpoint:
    """Deliver to an endpoint again, also after it answered 410."""
    row = call.provisioning.set_endpoint_state(account_id=call.account_id, endpoint_id=endpoint_id, enabled=True)
    return _shown(row)


@group.operation("POST", f"{_ENDPOINT}/disable", access=Access.WRITE, answers={200: Endpoint})
def disable_endpoint(call: Call[None, None], endpoint_id: str) -> Endpoint:
    """Stop delivering to an endpoint: what is due ends as dead, `endpoint_disabled`."""
    row = call.provisioning.set_endpoint_state(account_id=call.account_id, endpoint_id=endpoint_id, enabled=False)
    return _shown(row)


@group.operation(
    "POST", f"{_ENDPOINT}/rotate", access=Access.WRITE, body=Rotation, answers={200: RotatedEndpoint}, errors=(409,)
)
def rotate_endpoint(call: Call[Rotation, None], endpoint_id: str) -> RotatedEndpoint:
    """Replace an endpoint's signing secret.

    Deliveries carry a signature of the new one and, for `overlapHours`, one of the old one beside it: a receiver may
    change over in that time, and another rotation is 409 until it is over. With 0 the new one signs alone at once. It
    is shown this once.
    """
    rotated = call.provisioning.rotate_endpoint(
        account_id=call.account_id, endpoint_id=endpoint_id, **_given(call.body)
    )
    made = {"signingSecret": rotated.signing_secrets[0]}
    if call.body.webhook_secret:
        made["webhookSecret"] = rotated.webhook_secret
    return RotatedEndpoint.model_validate(shown.endpoint(rotated) | made)


@group.operation("POST", f"{_ENDPOINT}/test", access=Access.WRITE, answers={202: TestEvent}, errors=(409,))
def test_endpoint(call: Call[None, None], endpoint_id: str) -> TestEvent:
    """Send a test event to an endpoint.

    A `switchhook.test` with `livemode: false` goes the way of every delivery, to this endpoint only, whatever its
    `events` are. It is never charged.
    """
    services = call.services
    admission = trial_of(
        services.database,
        services.ring,
        account_id=call.account_id,
        endpoint_id=endpoint_id,
        usual_quota_bytes=services.settings.account_quota_bytes,
    )
    services.commit(admission)
    return TestEvent(id=admission.event_id)


def made_endpoint(row: EndpointRow) -> MadeEndpoint:
    """An endpoint in the answer that shows its secrets."""
    secrets = {"webhookSecret": row.webhook_secret, "signingSecret": row.signing_secrets[0]}
    return MadeEndpoint.model_validate(shown.endpoint(row) | secrets)


def _shown(row: EndpointRow) -> Endpoint:
    return Endpoint.model_validate(shown.endpoint(row))


def _given(body: Input) -> dict[str, Any]:
    """The fields of a body as provisioning names them."""
    given = body.given()
    return given | {"filters": given.pop("events")} if "events" in given else given
