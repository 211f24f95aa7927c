"""Our adapter of Agora's list of agents, and the official client, against the same fake: both understand it alike."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from relay.errors import ProviderFailed, ProviderUnavailable
from relay.providers.rest.agora import Agora
from relay.settings import ProviderAccess
from tests.fakes.agora import FakeAgora

APPID = "0123456789abcdef0123456789abcdef"
RUNNING, STOPPED = 2, 4


@pytest.fixture
def fake() -> Iterator[FakeAgora]:
    """Agora."""
    with FakeAgora() as fake:
        yield fake


@pytest.fixture
def ours(fake: FakeAgora) -> Agora:
    """Our adapter."""
    return Agora(ProviderAccess(base_url=fake.url, api_key="customer:secret"))


def join(ours: Agora, name: str, *, channel: str = "c", appid: str = APPID) -> str:
    """Have an agent join, and return its id."""
    properties = {"channel": channel, "token": "a-secret", "agent_rtc_uid": "1", "remote_rtc_uids": ["*"]}
    return ours.join(appid, {"name": name, "preset": "a_preset", "properties": properties}).agent_id


def test_lists_a_projects_agents_that_run(fake: FakeAgora, ours: Agora) -> None:
    """Ids, times and states; those that have left, and other projects', only when they are asked for."""
    running, left = join(ours, "one"), join(ours, "two")
    ours.leave(APPID, left)
    join(ours, "elsewhere", appid="f" * 32)
    page = ours.list(APPID)
    assert [(one.agent_id, one.status) for one in page.agents] == [(running, "RUNNING")]
    assert (page.agents[0].start_ts, page.cursor) == (fake.agents[running].start_ts, None)
    assert [one.agent_id for one in ours.list(APPID, state={STOPPED}).agents] == [left]
    assert [one.status for one in ours.list(APPID, state=(STOPPED, RUNNING)).agents] == ["RUNNING", "STOPPED"]
    assert fake.requests[-1].query == {"state": ["2,4"], "limit": ["20"]}


def test_lists_what_a_time_and_a_channel_say(fake: FakeAgora, ours: Agora) -> None:
    """An agent counts by when it began; both bounds are included."""
    for number, channel in enumerate(("a", "a", "b")):
        fake.agents[join(ours, f"agent_{number}", channel=channel)].start_ts = 1_700_000_000 + number
    first, second, third = fake.agents
    spans = {(1_700_000_000, 1_700_000_001): [first, second], (1_700_000_001, 1_700_000_009): [second, third]}
    for (since, until), expected in spans.items():
        page = ours.list(APPID, from_time=since, to_time=until)
        assert [one.agent_id for one in page.agents] == expected
    assert ours.list(APPID).agents == ()  # the last two hours are Agora's default
    assert [one.agent_id for one in ours.list(APPID, channel="b", from_time=0).agents] == [third]


@pytest.mark.filterwarnings("ignore")  # the package was made for two versions of pydantic at once
def test_follows_the_cursor(fake: FakeAgora, ours: Agora) -> None:
    """A page at a time, to the end; the official client finds the same."""
    from agora_agent.client import Agora as OfficialAgora

    made = [join(ours, f"agent_{number}") for number in range(5)]
    found: list[str] = []
    cursor = None
    for most in (2, 2, 1):
        page = ours.list(APPID, limit=2, cursor=cursor)
        assert len(page.agents) == most
        found, cursor = [*found, *(one.agent_id for one in page.agents)], page.cursor
    assert (found, cursor) == (made, None)
    url = f"{fake.url}/api/conversational-ai-agent"
    with httpx.Client() as connections:
        official = OfficialAgora(
            base_url=url, httpx_client=connections, authorization="Basic x", username="u", password="p"
        )
        assert [one.agent_id for one in official.agents.list(APPID, limit=2)] == made


def test_a_list_that_fails_is_told_in_our_words(fake: FakeAgora, ours: Agora) -> None:
    """An outage, and an answer in another form."""
    fake.fail_next(500, times=3)
    with pytest.raises(ProviderUnavailable):
        ours.list(APPID)
    fake.agents[""] = fake.agents.pop(join(ours, "odd"))
    fake.agents[""].agent_id = ""
    with pytest.raises(ProviderFailed, match="something else than it documents"):
        ours.list(APPID)
