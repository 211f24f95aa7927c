"""The shape of the API as a build check: what every operation says of itself, whoever adds it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from relay.api.core.access import Access
from relay.api.core.families import CANARY, CONVERSATIONS, OURS, RETELL, family_of
from relay.api.core.models import Input, Output, Query
from relay.api.core.operations import Forms, Operation, Raw
from relay.api.core.responses import errors_of
from relay.api.routes import GROUPS, operations

OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in operations()}
CHANGING = {"POST", "PUT", "PATCH", "DELETE"}

# Everybody may see these: they tell nothing of any account.
PUBLIC = {"GET /openapi.json", "GET /docs"}

# Ours, and those of others whose documents say 201; the rest answer as theirs do.
SAYING_201 = (OURS, CANARY, CONVERSATIONS, RETELL)

# POST of these that makes nothing which could be asked for afterwards, and so does not say 201.
# A question that is too long for a query string.
CHANGES_NOTHING = {"POST /api/v1/rate-cards/preview"}
MAKES_NOTHING = {
    "POST /api/v1/sources/<id:source_id>/rotate",
    "POST /api/v1/endpoints/<id:endpoint_id>/enable",
    "POST /api/v1/endpoints/<id:endpoint_id>/disable",
    "POST /api/v1/endpoints/<id:endpoint_id>/rotate",
    "POST /api/v1/endpoints/<id:endpoint_id>/test",
    "POST /api/v1/deliveries/<id:event_id>/<id:endpoint_id>/replay",
    "POST /api/v1/deliveries/replay",
    "POST /api/agents/signed-url",
    "POST /api/v1/rate-cards/preview",
    # Several statements, or none: it may be repeated.
    "POST /api/v1/accounts/<id:account_id>/statements/<month>/close",
}

# What is there to say why it is not to be had.
_AGENT = "/api/conversational-ai-agent/v2/projects/<appid>/agents/<agent_id>"
NEVER_SUCCEEDS = {
    "GET /v1/conversations/<session_id>/stream",
    f"GET {_AGENT}/history",
    f"GET {_AGENT}/turns",
    f"POST {_AGENT}/think",
    "GET /api/convagents/sessions/<row:session_id>/audio",
}

# Modules whose bodies may hold what they do not name, because the system that they stand in for takes it.
OPEN_MODULES = {"relay.api.agora.models", "relay.api.agora.properties", "relay.api.canonical"}

# Fields that are called like secrets. Each is shown once, when it is made, or is none.
SHOWN = {
    ("MadeAccount", "apiKey"),
    ("MadeKey", "key"),
    ("MadeEndpoint", "webhookSecret"),
    ("MadeEndpoint", "signingSecret"),
    ("RotatedEndpoint", "webhookSecret"),
    ("RotatedEndpoint", "signingSecret"),
    ("TemplateMade", "webhookSecret"),
    ("TemplateMade", "signingSecret"),
    # Always null: what a public key is for is not built yet.
    ("TemplateMade", "relayPublicKey"),
    ("TemplateShown", "relayPublicKey"),
    ("SessionStarted", "accessToken"),
    ("OpenedWebCall", "access_token"),
    ("RegisteredCall", "access_token"),
    # Of a TURN server, for this one call.
    ("IceServer", "credential"),
    # How many, which is none.
    ("UsageTotals", "totalTokens"),
    ("MonthOverview", "totalTokens"),
    # Of statements, for whoever wants to compare them.
    ("StatementSummary", "sha256"),
    ("Statement", "sha256"),
    ("LedgerDigest", "sha256"),
    ("ClosedMonth", "sha256"),
}

# A field of a body or query that names something of the account which may not be there.
NAMES_AN_OBJECT = re.compile(r"(?<![a-z])(?:id|ids)$|^account$|[a-z]Ids?$|_ids?$")
SECRET = re.compile(r"secret|password|token|(?:^|_|[a-z])key$|^key$|sealed|sha256|credential", re.IGNORECASE)


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> Operation:
    """Each operation."""
    return OPERATIONS[request.param]


def _models(model: Any) -> Iterator[type[BaseModel]]:
    """A model and all that its fields hold."""
    found: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, Forms):
            waiting.append(kind.model)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.add(kind)
            yield kind
            waiting += [field.annotation for field in kind.model_fields.values()]


def _named(model: type[BaseModel]) -> Iterator[str]:
    """The fields' names as they stand in JSON."""
    for name, field in model.model_fields.items():
        yield field.serialization_alias or field.alias or name


def test_there_are_operations() -> None:
    """The checks below have something to look at, and no route is declared twice."""
    assert len(OPERATIONS) == len(operations()) >= len(PUBLIC)


def test_names_are_unique_in_their_family() -> None:
    """A program that is generated from the description has a function for each."""
    counted = Counter((operation.family.name, operation.name) for operation in operations())
    assert [name for name, count in counted.items() if count > 1] == []


def test_groups_are_registered_once() -> None:
    """What is listed twice would be described twice."""
    assert len(set(map(id, GROUPS))) == len(GROUPS)


def test_explains_itself(operation: Operation) -> None:
    """A summary of one line without a full stop, and a tag."""
    assert operation.summary
    assert "\n" not in operation.summary
    assert operation.summary[0].isupper() or operation.summary[0] in "`'"
    assert len(operation.summary) <= 100
    assert operation.tag


def _in_path(operation: Operation) -> list[str]:
    return re.findall(r"<(?:[a-z]+:)?([a-z_]+)>", operation.path)


def test_handler_takes_what_the_path_names(operation: Operation) -> None:
    """The call, and the parameters of its path."""
    assert list(inspect.signature(operation.handler).parameters) == ["call", *_in_path(operation)]


def test_says_404_only_where_something_is_looked_for(operation: Operation) -> None:
    """By an id in the path, or by one in the body or query."""
    fields = {name for model in (operation.body, operation.query) if model for name in _named(model)}
    looks_for_something = bool(_in_path(operation)) or any(map(NAMES_AN_OBJECT.search, fields))
    assert 404 not in errors_of(operation) or looks_for_something


def test_path_is_its_familys(operation: Operation) -> None:
    """So that a path without an operation, or with another method, is refused in the same dialect."""
    assert family_of(operation.path) is operation.family


def test_answers_with_a_success(operation: Operation) -> None:
    """One at least, with a model unless there is nothing to say."""
    assert bool(operation.answers) == (f"{operation.method} {operation.path}" not in NEVER_SUCCEEDS)
    assert all(200 <= status < 300 for status in operation.answers)
    if operation.family in SAYING_201:
        assert all((model is None) == (status == 204) for status, model in operation.answers.items())


def test_what_makes_something_says_201(operation: Operation) -> None:
    """Or is listed as making nothing."""
    key = f"{operation.method} {operation.path}"
    makes_something = operation.method == "POST" and operation.family in SAYING_201 and key not in MAKES_NOTHING
    assert (201 in operation.answers) == makes_something, f"{key}: add it to MAKES_NOTHING, if it makes nothing"


def test_what_changes_something_takes_a_key_that_may_write(operation: Operation) -> None:
    """A reading key changes nothing, and nobody changes anything without a key."""
    key = f"{operation.method} {operation.path}"
    if operation.method in CHANGING and key not in CHANGES_NOTHING:
        assert operation.access in (Access.WRITE, Access.OPERATE)
    assert (operation.access is Access.PUBLIC) == (key in PUBLIC)


def test_reading_has_no_body(operation: Operation) -> None:
    """Some clients and proxies drop it."""
    assert operation.method in CHANGING or operation.body is None


def test_unknown_fields_are_refused(operation: Operation) -> None:
    """In bodies and queries, and in all that they hold; a typing error is not ignored."""
    for model in (operation.body, operation.query):
        for inner in _models(model):
            assert issubclass(inner, Input), inner
            assert inner.model_config["extra"] == "forbid" or inner.__module__ in OPEN_MODULES, inner


def test_queries_are_read_as_text(operation: Operation) -> None:
    """As query strings are; bodies are not."""
    assert operation.query is None or issubclass(operation.query, Query)
    assert operation.body is None or not issubclass(operation.body, Query)


def test_answers_are_of_our_making(operation: Operation) -> None:
    """Models that go out are made for it, so that no row of a table goes out with a column that was added."""
    for answer in operation.answers.values():
        if not isinstance(answer, Raw):
            assert all(issubclass(model, Output) for model in _models(answer))


def test_secrets_are_shown_once(operation: Operation) -> None:
    """No answer has a field that is called like a secret, unless it is listed."""
    for answer in operation.answers.values():
        for model in _models(answer):
            secrets = {(model.__name__, name) for name in _named(model) if SECRET.search(name)}
            assert secrets <= SHOWN, "add it to SHOWN, if the answer is the one that makes it"


def test_lists_of_exceptions_are_short_and_true() -> None:
    """What they name exists, and needs to be named."""
    assert set(OPERATIONS) >= PUBLIC | CHANGES_NOTHING | MAKES_NOTHING | NEVER_SUCCEEDS
    answers = [answer for operation in operations() for answer in operation.answers.values()]
    shown = {(model.__name__, name) for answer in answers for model in _models(answer) for name in _named(model)}
    assert shown >= SHOWN


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("webhookSecret", True),
        ("signingSecrets", True),
        ("key", True),
        ("apiKey", True),
        ("accessToken", True),
        ("keyPrefix", False),
        ("totalTokens", True),  # caught, and to be listed: better one too many
        ("endpointId", False),
    ],
)
def test_knows_a_secret_by_its_name(*, name: str, is_secret: bool) -> None:
    """The pattern of the test above is not blind."""
    assert bool(SECRET.search(name)) == is_secret


def test_a_family_has_whole_segments() -> None:
    """What only begins like another's path is ours."""
    paths = ("/api/v1/call", "/api/v1/call/x", "/api/v1/calls", "/v2/get-call/1", "/v2")
    assert [family_of(path).name for path in paths] == ["canonical", "canonical", "ours", "retell", "ours"]
