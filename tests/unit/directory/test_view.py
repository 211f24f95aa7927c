"""An account's view: which endpoints an event goes to, and whose agent it came from."""

from __future__ import annotations

from typing import Any

import pytest

from relay.directory import AccountView
from relay.store.snapshot import AccountConfig, EndpointConfig, SourceConfig, TemplateConfig

TEMPLATE, OTHER_TEMPLATE = 1, 2
SOURCE, OTHER_SOURCE = "src_1", "src_2"


def an_endpoint(name: str, **changes: Any) -> EndpointConfig:
    values: dict[str, Any] = {
        "id": name,
        "url": "https://customer.example/",
        "headers": {},
        "webhook_secret": "hush",
        "signing_secrets": ("whsec_MDAw",),
        "signing": "standard",
        "filters": ("*",),
        "deadline_seconds": 15,
        "retention_hours": None,
        "template_id": None,
        "source_id": None,
        "state": "active",
    }
    return EndpointConfig(**(values | changes))


def a_template(
    number: int,
    agent_id: str | None,
    provider: str = "elevenlabs",
    *,
    endpoint_id: str | None = None,
    retired: bool = False,
) -> TemplateConfig:
    return TemplateConfig(
        id=number,
        name=f"Template {number}",
        agent_id=agent_id,
        provider=provider,
        endpoint_id=endpoint_id,
        content_retention_hours=None,
        webhook_secret="hush",
        retired=retired,
    )


def a_view(*endpoints: EndpointConfig, templates: tuple[TemplateConfig, ...] | None = None) -> AccountView:
    """A view of these; unless templates are given, each endpoint's own one names it."""
    if templates is None:
        owned = [endpoint for endpoint in endpoints if endpoint.template_id is not None]
        templates = tuple(a_template(one.template_id or 0, None, endpoint_id=one.id) for one in owned)
    return AccountView(
        AccountConfig(
            account_id="acc_1",
            version=3,
            quota_bytes=7,
            key_hashes=(),
            sources=(SourceConfig(id=SOURCE, provider="retell", secrets=("s",)),),
            endpoints=endpoints,
            templates=templates,
        )
    )


EVERYWHERE = (
    an_endpoint("of-template", template_id=TEMPLATE),
    an_endpoint("of-source", source_id=SOURCE),
    an_endpoint("wide"),
    an_endpoint("wide-filtered", filters=("elevenlabs.*",)),
)


@pytest.mark.parametrize(
    ("template_id", "source_id", "expected"),
    [
        (TEMPLATE, None, ["of-template", "wide"]),
        (TEMPLATE, SOURCE, ["of-template", "wide"]),  # the template's comes before the source's
        (OTHER_TEMPLATE, SOURCE, ["of-source", "wide"]),  # a template without an endpoint has none to come before
        (None, SOURCE, ["of-source", "wide"]),
        (None, OTHER_SOURCE, ["wide"]),
        (None, None, ["wide"]),
    ],
)
def test_routes_to_the_template_else_the_source_and_everything_account_wide(
    template_id: int | None, source_id: str | None, expected: list[str]
) -> None:
    """An endpoint bound to one template or source never sees another's events."""
    routed = a_view(*EVERYWHERE).route("retell.call_ended", template_id=template_id, source_id=source_id)
    assert [endpoint.id for endpoint in routed] == expected


@pytest.mark.parametrize(
    ("filters", "event_type", "takes"),
    [
        (("*",), "retell.call_ended", True),
        (("retell.call_ended",), "retell.call_ended", True),
        (("retell.call_ended",), "retell.call_ended.more", False),
        (("retell.call_ended",), "Retell.Call_Ended", False),
        (("elevenlabs.*",), "elevenlabs.post_call_audio", True),
        (("elevenlabs.*",), "retell.call_ended", False),
        (("elevenlabs.*", "retell.call_ended"), "retell.call_ended", True),
        (("*.call_ended",), "retell.call_ended", True),
        ((), "retell.call_ended", False),
    ],
)
def test_an_endpoint_gets_what_its_filter_takes(filters: tuple[str, ...], event_type: str, takes: bool) -> None:
    """Wherever the endpoint is bound to."""
    for bound in ({}, {"template_id": TEMPLATE}, {"source_id": SOURCE}):
        view = a_view(an_endpoint("ep", filters=filters, **bound))
        assert bool(view.route(event_type, template_id=TEMPLATE, source_id=SOURCE)) is takes


OURS = "switchhook.budget.alert"


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        (OURS, ["operations", "operations-filtered"]),
        ("switchhook.statement.closed", ["operations"]),
        ("retell.call_ended", ["of-template", "wide"]),
        ("switchhooks.budget.alert", ["of-template", "wide"]),  # a provider by another name
    ],
)
def test_operations_endpoints_get_what_is_ours_and_nothing_else_does(event_type: str, expected: list[str]) -> None:
    """No call goes to operations, and no budget to who takes all calls; the filters alone say which is which."""
    operations = (
        an_endpoint("operations", filters=("switchhook.*",)),
        an_endpoint("operations-filtered", filters=("switchhook.budget.*",)),
    )
    routed = a_view(*EVERYWHERE, *operations).route(event_type, template_id=TEMPLATE, source_id=SOURCE)
    assert [endpoint.id for endpoint in routed] == expected


def test_a_templates_filter_does_not_open_the_way_to_the_sources_endpoint() -> None:
    """The template's endpoint takes the source's place also for what it filters out."""
    view = a_view(
        an_endpoint("of-template", template_id=TEMPLATE, filters=("none",)), an_endpoint("of-source", source_id=SOURCE)
    )
    assert view.route("retell.call_ended", template_id=TEMPLATE, source_id=SOURCE) == ()


def test_an_endpoint_that_its_template_gave_up_gets_nothing_new() -> None:
    """It is still the template's own, for what waits; the source's takes its place."""
    given_up, now = an_endpoint("old", template_id=TEMPLATE), an_endpoint("new", template_id=TEMPLATE)
    of_source = an_endpoint("of-source", source_id=SOURCE)
    for names, expected in (("new", ["new"]), (None, ["of-source"])):
        view = a_view(given_up, now, of_source, templates=(a_template(TEMPLATE, None, endpoint_id=names),))
        routed = view.route("retell.call_ended", template_id=TEMPLATE, source_id=SOURCE)
        assert [endpoint.id for endpoint in routed] == expected


def test_a_retired_template_keeps_its_endpoint_and_its_agent_until_another_has_it() -> None:
    """What its last calls tell still goes where it went."""
    retired = a_template(TEMPLATE, "agent_1", endpoint_id="ep", retired=True)
    endpoint = an_endpoint("ep", template_id=TEMPLATE)
    view = a_view(endpoint, templates=(retired,))
    assert view.template_of_agent("elevenlabs", "agent_1") == retired
    assert view.route("elevenlabs.complete", template_id=TEMPLATE, source_id=None) == (endpoint,)
    successor = a_template(OTHER_TEMPLATE, "agent_1")
    for both in ((successor, retired), (retired, successor)):
        assert a_view(templates=both).template_of_agent("elevenlabs", "agent_1") == successor


@pytest.mark.parametrize("state", ["disabled", "gone"])
def test_endpoints_that_take_nothing_are_routed_to(state: str) -> None:
    """Their units are settled as dead, so that nothing ends in silence."""
    routed = a_view(an_endpoint("ep", state=state)).route("retell.call_ended", template_id=None, source_id=None)
    assert [endpoint.id for endpoint in routed] == ["ep"]


@pytest.mark.parametrize(
    ("provider", "agent_id", "expected"),
    [
        ("elevenlabs", "agent_1", 1),
        ("retell", "agent_1", 2),  # agents of different providers may be named alike
        ("retell", "agent_2", None),
        ("elevenlabs", None, None),
        ("elevenlabs", "", None),
    ],
)
def test_finds_the_template_of_an_agent(provider: str, agent_id: str | None, expected: int | None) -> None:
    """By provider and id; no agent belongs to no template."""
    templates = (a_template(1, "agent_1"), a_template(2, "agent_1", "retell"), a_template(3, None))
    template = a_view(templates=templates).template_of_agent(provider, agent_id)
    assert (template and template.id) == expected
