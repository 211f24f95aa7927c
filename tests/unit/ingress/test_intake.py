"""The intake: which template and session an event belongs to, where it goes, and what of it is kept."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

import msgspec
import pytest

from relay.calls import DERIVED_SESSION_BASE, TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, Facts, derived_session_id
from relay.content import Content
from relay.directory import AccountView, Directory
from relay.errors import BadRequest, NotFound, PayloadError, SwitchhookError, Unauthorized, Unavailable
from relay.ingress.commit import GroupCommit
from relay.ingress.intake import CanaryRoute, Intake, Receipt
from relay.outbox import Admission, Unit, Verdict
from relay.outbox.outcomes import decode_facts
from relay.providers import elevenlabs, retell
from relay.sealing import KeyRing, open_event
from relay.settings import Settings
from relay.store.conversations import ConversationTemplate
from relay.store.snapshot import AccountConfig, EndpointConfig, SourceConfig, TemplateConfig

RING = KeyRing("a passphrase for tests only, long enough to be taken")
SETTINGS = Settings(database_url="", redis_url="", keys="", retention=timedelta(hours=96), account_quota_bytes=5_000)
HOUR_MS = 3_600_000
SIGNING_SECRET = "whsec_" + base64.b64encode(b"0" * 32).decode()


def a_template(number: int, *, agent_id: str | None = None, secret: str = "shared") -> TemplateConfig:
    return TemplateConfig(
        id=number,
        name=f"Template {number}",
        agent_id=agent_id,
        provider="elevenlabs",
        endpoint_id=None,
        content_retention_hours=None,
        webhook_secret=secret,
    )


def an_endpoint(name: str, **changes: Any) -> EndpointConfig:
    values: dict[str, Any] = {
        "id": name,
        "url": "https://customer.example/",
        "headers": {},
        "webhook_secret": "hush",
        "signing_secrets": (SIGNING_SECRET,),
        "signing": "standard",
        "filters": ("*",),
        "deadline_seconds": 15,
        "retention_hours": None,
        "template_id": None,
        "source_id": None,
        "state": "active",
    }
    return EndpointConfig(**(values | changes))


def an_account(
    name: str,
    *,
    templates: Sequence[TemplateConfig] = (),
    sources: Sequence[SourceConfig] = (),
    endpoints: Sequence[EndpointConfig] = (),
    quota_bytes: int | None = None,
) -> AccountView:
    return AccountView(
        AccountConfig(
            account_id=name,
            version=4,
            quota_bytes=quota_bytes,
            key_hashes=(),
            sources=tuple(sources),
            endpoints=tuple(endpoints),
            templates=tuple(templates),
        )
    )


class InMemory(Directory):
    """Accounts and sessions in memory."""

    def __init__(
        self,
        *views: AccountView,
        sessions: dict[tuple[str, int], int] | None = None,
        conversations: dict[tuple[str, str, str | None], ConversationTemplate] | None = None,
    ) -> None:
        self._views = views
        self._sessions = sessions or {}
        self.lost: dict[tuple[str, int], int] = {}
        self._behind = conversations or {}
        self.reloads = 0

    def source(self, source_id: str) -> tuple[AccountView, SourceConfig]:
        for view in self._views:
            if source_id in view.sources:
                return view, view.sources[source_id]
        raise NotFound

    def templates_of_secret(self, secret: str) -> list[tuple[AccountView, TemplateConfig]]:
        return [(v, t) for v in self._views for t in v.templates.values() if t.webhook_secret == secret]

    def templates_of_agent(self, provider: str, agent_id: str) -> list[tuple[AccountView, TemplateConfig]]:
        pairs = [(v, t) for v in self._views for t in v.templates.values()]
        return [(v, t) for v, t in pairs if (t.provider, t.agent_id) == (provider, agent_id)]

    def conversation_of_agent(
        self, view: AccountView, provider: str, agent_id: str | None
    ) -> ConversationTemplate | None:
        return self._behind.get((view.account_id, provider, agent_id))

    def template_of_session(self, account_id: str, session_id: int) -> int | None:
        return self._sessions.get((account_id, session_id))

    def template_of_lost_session(self, account_id: str, session_id: int) -> int | None:
        return self.lost.get((account_id, session_id))

    def reload(self, account_id: str) -> AccountView:
        self.reloads += 1
        return next(view for view in self._views if view.account_id == account_id)


class Commits(GroupCommit):
    """Keeps what would be committed, and gives the verdicts that it was told."""

    def __init__(self, *verdicts: Verdict) -> None:
        self._verdicts = list(verdicts)
        self.admissions: list[Admission] = []

    def start(self) -> None:
        """There is nothing to start."""

    def commit(self, admission: Admission) -> Verdict:
        self.admissions.append(admission)
        return self._verdicts.pop(0) if self._verdicts else Verdict.NEW

    @property
    def facts(self) -> Facts:
        admission = self.admissions[-1]
        return decode_facts(admission.facts, event_id=admission.event_id, account_id=admission.account_id)


def canary(
    directory: Directory,
    body: dict[str, Any] | bytes,
    *,
    route: CanaryRoute = "event",
    secret: str | None = "shared",
    signature: str | None = None,
    commits: Commits | None = None,
) -> Facts:
    """Take one event of CanaryLLM's routes; its facts."""
    commits = commits or Commits()
    intake = Intake(SETTINGS, RING, directory, commits)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    receipt = intake.canary(
        route,
        Content(raw),
        secret=secret,
        signature=signature,
        idempotency_key=None,
        content_type="application/json",
    )
    facts = commits.facts
    assert receipt == Receipt(facts.event_id, repeat=False, conversation_id=facts.call.conversation_id)
    return facts


# -- choosing a template


ONE = InMemory(an_account("acc_1", templates=[a_template(1)]))
THREE = InMemory(
    an_account("acc_1", templates=[a_template(1, agent_id="agent_1"), a_template(2, agent_id="agent_2")]),
    an_account("acc_2", templates=[a_template(3, agent_id="agent_1")]),
    sessions={("acc_1", 50): 2, ("acc_1", 51): 9, ("acc_2", 52): 3},
)


@pytest.mark.parametrize(
    ("named", "template_id"),
    [
        ({"sessionId": 50}, 2),  # the session that the API made for template 2
        ({"canary_session_id": "52"}, 3),
        ({"sessionId": 50, "templateId": 1}, 2),  # a session is one template's, whatever else is said
        ({"conversationId": "c", "templateId": 1}, 1),
        ({"conversationId": "c", "templateId": "3"}, 3),
        ({"conversationId": "c", "agentId": "agent_2"}, 2),
        ({"conversationId": "c", "templateId": 3, "agentId": "agent_2"}, 3),
        ({"sessionId": 77, "templateId": 2}, 2),  # an unknown session chooses nothing
    ],
)
def test_chooses_by_session_then_template_then_agent(named: dict[str, Any], template_id: int) -> None:
    """Among those that the secret opens."""
    facts = canary(THREE, named)
    assert (facts.template_id, facts.template_name) == (template_id, f"Template {template_id}")
    assert facts.account_id == ("acc_2" if template_id == 3 else "acc_1")


@pytest.mark.parametrize(
    "named",
    [
        {"conversationId": "c"},
        {"conversationId": "c", "agentId": "agent_1"},  # two accounts claim this agent
        {"conversationId": "c", "agentId": "agent_9"},
        {"conversationId": "c", "templateId": 9},
        {"sessionId": 77},
    ],
)
def test_an_event_of_several_templates_is_refused(named: dict[str, Any]) -> None:
    """It says what to name; guessing would show one customer another's call."""
    with pytest.raises(BadRequest) as refused:
        canary(THREE, named)
    assert (refused.value.code, refused.value.field) == ("template_ambiguous", "templateId")


def test_a_session_of_another_template_is_not_found() -> None:
    """Its template exists, but this secret does not open it."""
    with pytest.raises(NotFound) as refused:
        canary(THREE, {"sessionId": 51})
    assert refused.value.code == "session_not_found"
    known = InMemory(an_account("acc_1", templates=[a_template(1)]), sessions={("acc_1", 50): 2})
    with pytest.raises(NotFound):
        canary(known, {"sessionId": 50, "templateId": 1})


RETIRED = msgspec.structs.replace(a_template(1), retired=True)


def test_a_retired_template_takes_what_names_a_session_of_its_own() -> None:
    """Its last calls end as the others do, also where its secret opens another template by now."""
    for others in ((), (a_template(2),)):
        known = InMemory(an_account("acc_1", templates=[RETIRED, *others]), sessions={("acc_1", 50): 1})
        assert canary(known, {"sessionId": 50}).template_id == 1


def test_a_retired_template_takes_nothing_else() -> None:
    """Its secret opens nothing, and stands in no other template's way."""
    with pytest.raises(Unauthorized):
        canary(InMemory(an_account("acc_1", templates=[RETIRED])), {"conversationId": "c", "templateId": 1})
    both = InMemory(an_account("acc_1", templates=[RETIRED, a_template(2)]))
    assert canary(both, {"conversationId": "c"}).template_id == 2


def test_one_template_needs_no_further_name() -> None:
    """What the body names beside it is ignored: the secret is the proof."""
    for named in ({"conversationId": "c"}, {"conversationId": "c", "templateId": 9}, {"sessionId": 5}):
        assert canary(ONE, named).template_id == 1


def test_a_session_of_another_account_is_just_a_number() -> None:
    """Naming it reaches nothing: the event opens a session of its own."""
    directory = InMemory(
        an_account("acc_1", templates=[a_template(1)]),
        an_account("acc_2", templates=[a_template(2, secret="theirs")]),
        sessions={("acc_2", 60): 2},
    )
    facts = canary(directory, {"sessionId": 60})
    assert (facts.account_id, facts.template_id) == ("acc_1", 1)
    assert facts.session_id != 60
    assert facts.session_id >= DERIVED_SESSION_BASE


@pytest.mark.parametrize("owner", [None, 1])
def test_a_session_is_looked_for_once(monkeypatch: pytest.MonkeyPatch, owner: int | None) -> None:
    """Whether there is one or not: Redis is asked each time."""
    asked: list[int] = []

    def template_of_session(_: InMemory, account_id: str, session_id: int) -> int | None:
        assert account_id == "acc_1"
        asked.append(session_id)
        return owner

    monkeypatch.setattr(InMemory, "template_of_session", template_of_session)
    assert (canary(ONE, {"sessionId": 50}).session_id == 50) == (owner is not None)
    assert asked == [50]


def test_a_conversation_may_be_named_as_we_name_those_without_a_name() -> None:
    """It is that conversation, and not the session that the body names besides."""
    told = DERIVED_SESSION_BASE + 7
    assert canary(ONE, {"sessionId": told}).session_id == told
    named = canary(ONE, {"sessionId": told, "conversationId": "session-12"})
    assert named.session_id == derived_session_id("acc_1", "elevenlabs", "session-12")


@pytest.mark.parametrize(
    ("secret", "code"), [(None, "secret_missing"), ("", "secret_missing"), ("wrong", "secret_invalid")]
)
def test_refuses_who_has_no_secret(secret: str | None, code: str) -> None:
    """Before the body is looked at."""
    with pytest.raises(Unauthorized) as refused:
        canary(ONE, {"not even": "needed"}, secret=secret)
    assert refused.value.code == code


def test_needs_a_session_or_a_conversation() -> None:
    """Anything else has nowhere to belong."""
    with pytest.raises(PayloadError) as refused:
        canary(ONE, {"hello": "world"})
    assert refused.value.code == "session_required"


# -- /complete, proved by ElevenLabs


def transcription(**data: Any) -> dict[str, Any]:
    return {
        "type": "post_call_transcription",
        "event_timestamp": 1_770_811_500,
        "data": {"conversation_id": "conv_1", "agent_id": "agent_1", "metadata": {"call_duration_secs": 61}, **data},
    }


def signed_by(secret: str, body: dict[str, Any]) -> str:
    [(_, signature)] = elevenlabs.sign(json.dumps(body).encode(), secret=secret, now_ms=int(time.time() * 1000))
    return signature


def with_source(name: str, secret: str, template: TemplateConfig) -> AccountView:
    source = SourceConfig(id=f"src_{name}", provider="elevenlabs", secrets=(secret,))
    return an_account(name, templates=[template], sources=[source])


CLAIMED = InMemory(
    with_source("acc_1", "secret of one", a_template(1, agent_id="agent_1", secret="a")),
    with_source("acc_2", "secret of two", a_template(2, agent_id="agent_1", secret="b")),
)


def test_an_elevenlabs_signature_finds_the_account_that_it_proves() -> None:
    """Two accounts claim the agent; only one has the secret."""
    body = transcription()
    facts = canary(CLAIMED, body, route="complete", secret=None, signature=signed_by("secret of two", body))
    assert (facts.account_id, facts.template_id) == ("acc_2", 2)
    assert facts.call.ending is not None


@pytest.mark.parametrize("is_managed", [True, False])
def test_what_complete_proves_is_the_accounts_word(is_managed: bool) -> None:
    """A template's secret says least, whatever form the body has; a signature says what a source of theirs would."""
    template = a_template(1, agent_id="agent_1")
    source = SourceConfig(id="src_1", provider="elevenlabs", secrets=("hush",), managed=is_managed)
    where = InMemory(an_account("acc_1", templates=[template], sources=[source]))
    body = transcription()
    assert canary(where, body, route="complete").trust == TRUST_KEY
    signature = signed_by("hush", body)
    assert canary(where, body, route="complete", secret=None, signature=signature).trust == TRUST_SOURCE


@pytest.mark.parametrize(
    ("body", "secret", "route"),
    [
        (transcription(), "wrong", "complete"),
        (transcription(agent_id="agent_9"), "secret of one", "complete"),
        (transcription(agent_id=None), "secret of one", "complete"),
        ({"not": "elevenlabs"}, "secret of one", "complete"),
        (transcription(), "secret of one", "event"),  # this route knows no signature
    ],
)
def test_a_signature_that_proves_nothing_is_refused(body: dict[str, Any], secret: str, route: CanaryRoute) -> None:
    """Whatever is wrong with it, the sender learns no more than that."""
    with pytest.raises(Unauthorized):
        canary(CLAIMED, body, route=route, secret=None, signature=signed_by(secret, body))


# -- a signed source


SOURCE = SourceConfig(id="src_1", provider="retell", secrets=("old key", "new key"))


def signed(
    view: AccountView,
    body: dict[str, Any],
    *,
    key: str = "new key",
    provider: str = "retell",
    source_id: str = "src_1",
    commits: Commits | None = None,
    directory: Directory | None = None,
) -> tuple[Receipt, Commits]:
    commits = commits or Commits()
    raw = json.dumps(body).encode()
    intake = Intake(SETTINGS, RING, directory or InMemory(view), commits)
    headers = dict(retell.sign(raw, secret=key, now_ms=int(time.time() * 1000)))
    receipt = intake.signed(provider, source_id, Content(raw), header=headers.get, content_type="application/json")
    return receipt, commits


def call_ended(**call: Any) -> dict[str, Any]:
    facts = {"call_id": "call_1", "agent_id": "agent_1", "start_timestamp": 1_000, "end_timestamp": 62_000}
    return {"event": "call_ended", "call": facts | call}


@pytest.mark.parametrize("key", ["old key", "new key"])
def test_takes_what_any_secret_of_the_source_proves(key: str) -> None:
    """Several hold while one is rotated."""
    receipt, commits = signed(an_account("acc_1", sources=[SOURCE]), call_ended(), key=key)
    facts = commits.facts
    assert receipt == Receipt(facts.event_id, repeat=False, conversation_id=facts.call.conversation_id)
    assert (facts.account_id, facts.source_id) == ("acc_1", "src_1")


@pytest.mark.parametrize(("is_managed", "trust"), [(True, TRUST_PROVIDER), (False, TRUST_SOURCE)])
def test_a_managed_sources_word_counts_more_than_an_accounts_own(is_managed: bool, trust: int) -> None:
    """The account knows the secrets of its own sources, and may sign with them what it likes."""
    source = msgspec.structs.replace(SOURCE, managed=is_managed)
    assert signed(an_account("acc_1", sources=[source]), call_ended())[1].facts.trust == trust


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"key": "wrong"}, Unauthorized),
        ({"source_id": "src_2"}, NotFound),
        ({"provider": "elevenlabs"}, NotFound),  # there is no such source of this provider
        ({"provider": "nobody"}, NotFound),
    ],
)
def test_refuses_what_is_not_proved(options: dict[str, Any], error: type[SwitchhookError]) -> None:
    """Nothing reaches the outbox."""
    commits = Commits()
    with pytest.raises(error):
        signed(an_account("acc_1", sources=[SOURCE]), call_ended(), commits=commits, **options)
    assert commits.admissions == []


def test_a_bad_proof_is_told_before_a_bad_body() -> None:
    """Who proves nothing learns nothing of what would be accepted."""
    with pytest.raises(Unauthorized):
        signed(an_account("acc_1", sources=[SOURCE]), {"no": "event"}, key="wrong")
    with pytest.raises(PayloadError):
        signed(an_account("acc_1", sources=[SOURCE]), {"no": "event"})


def test_a_repeat_is_told_as_such() -> None:
    """With the id that it had before."""
    view = an_account("acc_1", sources=[SOURCE])
    first, _ = signed(view, call_ended())
    again, _ = signed(view, call_ended(), commits=Commits(Verdict.REPEAT))
    assert again == Receipt(first.event_id, repeat=True, conversation_id="call_1")


def test_an_event_finds_its_template_by_its_agent_and_its_session_by_its_conversation() -> None:
    """A session first seen in a webhook has the same id each time."""
    template = TemplateConfig(
        id=3,
        name="Three",
        agent_id="agent_1",
        provider="retell",
        endpoint_id="ep",
        content_retention_hours=None,
        webhook_secret="",
    )
    view = an_account("acc_1", sources=[SOURCE], templates=[template])
    facts = signed(view, call_ended())[1].facts
    assert (facts.template_id, facts.template_name) == (3, "Three")
    assert facts.session_id == derived_session_id("acc_1", "retell", "call_1")


A_CONVERSATION: dict[tuple[str, str, str | None], ConversationTemplate] = {
    ("acc_1", "retell", "agent_1"): ConversationTemplate(
        id=1, name="Conversation 50", agent_id="agent_1", session_id=50
    )
}


@pytest.mark.parametrize(
    "call",
    [{}, {"call_id": "call_2"}, {"metadata": {"canary_session_id": "77"}}, {"metadata": {"canary_session_id": "60"}}],
)
def test_an_agent_that_was_made_for_one_session_names_it(call: dict[str, Any]) -> None:
    """Whatever client holds the conversation, and whichever session it names."""
    view = an_account("acc_1", sources=[SOURCE], endpoints=[an_endpoint("ep_wide")])
    directory = InMemory(view, sessions={("acc_1", 60): 2}, conversations=A_CONVERSATION)
    _, commits = signed(view, call_ended(**call), directory=directory)
    assert (commits.facts.session_id, commits.facts.template_id) == (50, 1)
    assert commits.facts.template_name == "Conversation 50"
    [admission] = commits.admissions
    assert admission.units == (Unit("relay", "ep_wide"), Unit("billing", "acc_1"))
    assert admission.config_version == view.version  # so that an endpoint that was added meanwhile gets it too


def test_an_agent_of_one_session_leaves_the_others_alone() -> None:
    """What other agents say is theirs, and so is the agent of a template that can be seen."""
    view = an_account("acc_1", sources=[SOURCE])
    directory = InMemory(view, conversations=A_CONVERSATION)
    _, commits = signed(view, call_ended(agent_id="agent_2"), directory=directory)
    derived = derived_session_id("acc_1", "retell", "call_1")
    assert (commits.facts.session_id, commits.facts.template_id) == (derived, None)
    seen = msgspec.structs.replace(a_template(2, agent_id="agent_1"), provider="retell")
    view = an_account("acc_1", sources=[SOURCE], templates=[seen])
    _, commits = signed(view, call_ended(), directory=InMemory(view, conversations=A_CONVERSATION))
    assert (commits.facts.session_id, commits.facts.template_id) == (derived, 2)


def test_a_session_that_the_api_made_is_joined_within_the_account_only() -> None:
    """By the id that the payload carries."""
    view = an_account("acc_1", sources=[SOURCE], templates=[a_template(7)])
    body = call_ended(metadata={"canary_session_id": 60})
    mine = InMemory(view, sessions={("acc_1", 60): 7})
    facts = signed(view, body, directory=mine)[1].facts
    assert (facts.session_id, facts.template_id) == (60, 7)
    theirs = InMemory(view, sessions={("acc_2", 60): 7})
    facts = signed(view, body, directory=theirs)[1].facts
    assert (facts.session_id, facts.template_id) == (derived_session_id("acc_1", "retell", "call_1"), None)


def test_a_session_that_redis_has_lost_is_joined_all_the_same() -> None:
    """However it is proved; another account's is just a number."""
    view = an_account("acc_1", sources=[SOURCE], templates=[a_template(7)])
    directory = InMemory(view)
    directory.lost = {("acc_1", 60): 7, ("acc_2", 61): 7}
    facts = signed(view, call_ended(metadata={"canary_session_id": 60}), directory=directory)[1].facts
    assert (facts.session_id, facts.template_id) == (60, 7)
    facts = canary(directory, {"sessionId": 60})
    assert (facts.session_id, facts.template_id) == (60, 7)
    assert canary(directory, {"sessionId": 61}).session_id >= DERIVED_SESSION_BASE


def test_the_session_of_a_conversation_is_known_by_its_agent() -> None:
    """Postgres is not asked for what there may be thousands of in a day."""
    view = an_account("acc_1", sources=[SOURCE])
    directory = InMemory(view, conversations=A_CONVERSATION)
    directory.lost = Never()
    facts = signed(view, call_ended(metadata={"canary_session_id": 50}), directory=directory)[1].facts
    assert facts.session_id == 50


class Never(dict[tuple[str, int], int]):
    """Sessions that nobody may ask for."""

    def get(self, *_: Any) -> NoReturn:
        raise AssertionError


def test_makes_a_unit_for_each_endpoint_and_one_for_billing() -> None:
    """Billing only where the event ends a call that was real."""
    endpoints = [an_endpoint("ep_1", source_id="src_1"), an_endpoint("ep_2"), an_endpoint("ep_3", filters=("x",))]
    view = an_account("acc_1", sources=[SOURCE], endpoints=endpoints)
    relayed = (Unit("relay", "ep_1"), Unit("relay", "ep_2"))
    assert signed(view, call_ended())[1].admissions[0].units == (*relayed, Unit("billing", "acc_1"))
    started = {"event": "call_started", "call": {"call_id": "call_1"}}
    assert signed(view, started)[1].admissions[0].units == relayed


def test_seals_content_for_its_event_and_account() -> None:
    """And keeps none where nobody waits for it."""
    body = json.dumps(call_ended()).encode()
    _, commits = signed(an_account("acc_1", sources=[SOURCE], endpoints=[an_endpoint("ep")]), call_ended())
    admission = commits.admissions[0]
    assert body not in admission.sealed
    opened = open_event(RING, admission.sealed, event_id=admission.event_id, account_id="acc_1")
    assert opened == body
    assert b"call_1" in admission.facts
    _, commits = signed(an_account("acc_1", sources=[SOURCE]), call_ended())
    assert commits.admissions[0].sealed == b""


@pytest.mark.parametrize(
    ("hours", "retention_ms", "window_ms"),
    [
        ([None], 96 * HOUR_MS, 95 * HOUR_MS),
        ([24], 24 * HOUR_MS, 23 * HOUR_MS),
        ([24, None], 96 * HOUR_MS, 95 * HOUR_MS),  # one sealed copy serves all: the longest holds
        ([0], HOUR_MS, HOUR_MS // 2),  # one attempt needs its time too
        ([1], HOUR_MS, HOUR_MS // 2),
        ([200], 200 * HOUR_MS, 199 * HOUR_MS),
    ],
)
def test_keeps_content_as_long_as_its_endpoints_ask(hours: list[int | None], retention_ms: int, window_ms: int) -> None:
    """The last attempt comes an hour before, so that a dead delivery can be replayed."""
    endpoints = [an_endpoint(f"ep_{n}", retention_hours=h) for n, h in enumerate(hours)]
    _, commits = signed(an_account("acc_1", sources=[SOURCE], endpoints=endpoints), call_ended())
    assert (commits.admissions[0].retention_ms, commits.admissions[0].window_ms) == (retention_ms, window_ms)


@pytest.mark.parametrize(("quota_bytes", "expected"), [(None, 5_000), (77, 77)])
def test_an_accounts_quota_is_its_own_or_the_settings(quota_bytes: int | None, expected: int) -> None:
    """In bytes of sealed content."""
    _, commits = signed(an_account("acc_1", sources=[SOURCE], quota_bytes=quota_bytes), call_ended())
    assert commits.admissions[0].quota_bytes == expected


def test_routes_again_when_the_configuration_has_changed() -> None:
    """Everything is proved anew, and given up only if it never rests."""
    view = an_account("acc_1", sources=[SOURCE])
    directory, commits = InMemory(view), Commits(Verdict.STALE, Verdict.STALE, Verdict.NEW)
    signed(view, call_ended(), directory=directory, commits=commits)
    assert (directory.reloads, len(commits.admissions)) == (2, 3)
    assert {admission.config_version for admission in commits.admissions} == {4}
    with pytest.raises(Unavailable):
        signed(view, call_ended(), commits=Commits(*[Verdict.STALE] * 10))


def test_no_error_quotes_what_was_sent() -> None:
    """Not even the field that is wrong."""
    canary_text = "words-of-a-caller"
    bodies: list[Any] = [
        {"sessionId": canary_text},
        {"conversationId": canary_text * 50},
        {"conversationId": canary_text + "\x00"},
        canary_text.encode(),
    ]
    for body in bodies:
        with pytest.raises(SwitchhookError) as refused:
            canary(ONE, body)
        assert canary_text not in repr(refused.value) + str(refused.value) + refused.value.detail
