"""Fetching recordings from servers that answer ranges, do not, lie about them, or are hostile."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable

import pytest

from relay.delivery.resolver import Lookup, system_lookup
from relay.errors import BodiesFull
from relay.recordings.fetch import Download, Egress
from relay.recordings.measure import Measured
from relay.recordings.measuring import Measuring
from relay.recordings.ranges import BLOCK_BYTES
from relay.recordings.unmeasured import Interrupted, Unmeasured
from tests import audio
from tests.recording_server import Manner, recording

ALLOW = (ipaddress.ip_network("127.0.0.1/32"),)
MIB = 1024 * 1024
# 30 minutes, 27 MiB: many blocks.
LONG = audio.wav(1_800_000)
SHORT = audio.wav(2_500)


def measure(
    url: str,
    *,
    most_bytes: int = 4 * MIB,
    seconds: float = 10.0,
    lookup: Lookup = system_lookup,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Measured:
    """What a worker does with an address."""
    egress = Egress(allow=ALLOW, lookup=lookup)
    return Measuring(egress, most_bytes=most_bytes, deadline_seconds=seconds).measure(url, is_stopping=is_stopping)


def refused(url: str, **options: object) -> tuple[str, str, bool]:
    """The code, the operators' code, and whether it is for good."""
    with pytest.raises(Unmeasured) as refusal:
        measure(url, **options)  # type: ignore[arg-type]
    return refusal.value.code, refusal.value.detail_code, refusal.value.permanent


def test_of_a_long_file_only_the_beginning_is_fetched() -> None:
    """One range of one block tells how long 27 MiB of sound last, though 4 MiB are the most that is fetched."""
    with recording(LONG) as server:
        assert str(measure(server.url).seconds) == "1800.000"
    assert server.ranges == [f"bytes=0-{BLOCK_BYTES - 1}"]
    assert server.requests[0]["accept-encoding"] == "identity"
    assert server.requests[0]["user-agent"].startswith("Switchhook/")


def test_what_is_at_the_end_is_fetched_from_there() -> None:
    """Sound that no parser looks at stays where it is: the description behind 20 MiB takes one more range."""
    with recording(audio.m4a(61_500, sound=20 * MIB)) as server:
        assert str(measure(server.url).seconds) == "61.500"
    assert len(server.requests) == 2


def test_a_file_that_is_read_whole_takes_few_requests() -> None:
    """Runs of blocks grow while they are read in order."""
    with recording(audio.opus(48_000 * 60)) as small:
        measure(small.url)
    assert len(small.requests) == 1
    frames = b"\xff\xfb\x90\xc0" + bytes(413)
    # Bit rates that change, so that every frame of the first 30 s is looked at; then noise until the end.
    changing = (frames + b"\xff\xfb\xa0\xc0" + bytes(518)) * 6000
    with recording(changing) as server:
        assert measure(server.url, most_bytes=16 * MIB).format == "mp3"
    assert len(server.requests) <= 4


@pytest.mark.parametrize(
    ("manner", "requests"),
    [
        ("whole", 1),
        ("whole, no length", 1),
        ("wrong range", 2),
        ("no total", 2),
        ("endless range", 2),
        ("empty range", 2),
    ],
)
def test_a_server_without_ranges_is_asked_for_the_whole(manner: Manner, requests: int) -> None:
    """At most once more than without: the same duration, from memory."""
    with recording(SHORT, manner) as server:
        found = measure(server.url)
    assert (str(found.seconds), found.format, len(server.requests)) == ("2.500", "wav", requests)
    assert server.ranges[1:] == [None] * (requests - 1)


def test_a_server_that_stops_to_answer_ranges_is_asked_for_the_whole() -> None:
    """In the middle of a file, too."""
    with recording(audio.m4a(61_500, sound=2 * MIB), "once") as server:
        assert str(measure(server.url).seconds) == "61.500"
    assert len(server.requests) == 2


def test_a_file_that_changes_meanwhile_is_tried_again_later() -> None:
    """Half of one file and half of another would be a third one."""
    with recording(audio.m4a(61_500, sound=2 * MIB), "changing") as server:
        assert refused(server.url) == ("truncated", "truncated", False)


@pytest.mark.parametrize(
    ("manner", "outcome"),
    [
        ("short", ("truncated", "truncated", False)),
        ("endless", ("too_large", "too_large", True)),
        ("gzip", ("not_audio", "not_audio", True)),
        ("redirect", ("http_302", "http_302", False)),
        ("missing", ("http_404", "http_404", False)),
    ],
)
def test_what_a_server_may_do_instead(manner: Manner, outcome: tuple[str, str, bool]) -> None:
    """One code for each; no redirect is followed and no body is decoded."""
    with recording(SHORT) as elsewhere, recording(SHORT, manner) as server:
        server.target = elsewhere.url
        assert refused(server.url) == outcome
    assert elsewhere.requests == []


def test_a_whole_file_that_is_too_large_is_not_even_begun() -> None:
    """Its Content-Length says enough: not a byte of it is kept."""
    kept: list[int] = []
    with (
        recording(LONG, "whole") as server,
        Download(
            server.url,
            Egress(allow=ALLOW),
            ends_at=time.monotonic() + 10,
            most_bytes=MIB,
            is_stopping=lambda: False,
        ) as download,
        pytest.raises(Unmeasured) as refusal,
    ):
        download.get(None, grow=kept.append)
    assert (refusal.value.code, refusal.value.permanent, kept) == ("too_large", True, [])


def test_one_deadline_covers_everything() -> None:
    """A server that says nothing more after its headers."""
    with recording(SHORT, "hang") as server:
        assert refused(server.url, seconds=0.3) == ("timeout", "timed_out", False)


def test_a_worker_that_is_asked_to_end_gives_up_at_once() -> None:
    """Whoever comes next measures it."""
    with recording(SHORT, "hang") as server:
        stopping = threading.Event()
        threading.Timer(0.2, stopping.set).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            measure(server.url, is_stopping=stopping.is_set)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("address", ["127.0.0.2", "169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:127.0.0.2]"])
def test_private_addresses_are_not_connected_to(address: str) -> None:
    """They look like any address that does not answer; operators see what it was."""
    with recording(SHORT) as server:
        url = server.url.replace("127.0.0.1", address)
        assert refused(url) == ("unreachable", "target_refused", False)
    assert server.requests == []


def test_a_name_is_judged_by_the_address_it_leads_to() -> None:
    """A name that led to a public address when it was looked at, and leads inside when it is fetched from."""
    asked: list[str] = []

    def rebinding(host: str) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("127.0.0.2",)

    with recording(SHORT) as server:
        url = f"http://rebinding.example:{server.port}/recording"
        assert measure(url, lookup=rebinding).format == "wav"
        assert refused(url, lookup=rebinding) == ("unreachable", "target_refused", False)
    assert len(server.requests) == 1
    assert asked == ["rebinding.example"] * 2


def test_a_name_that_nobody_knows() -> None:
    """It looks like any address that does not answer."""
    assert refused("http://nobody.example/a.wav", lookup=lambda _: ()) == ("unreachable", "dns_failed", False)


def test_a_server_that_is_not_there() -> None:
    """And so does one that refuses the connection."""
    with recording(SHORT) as server:
        url = server.url
    assert refused(url) == ("unreachable", "connect_failed", False)


def test_whole_files_share_the_memory_of_one() -> None:
    """What two recordings would hold together is refused to the second, for the moment."""
    measuring = Measuring(Egress(allow=ALLOW), most_bytes=MIB, deadline_seconds=10)
    with recording(SHORT, "whole") as server, measuring._budget.share() as share:
        share.grow(MIB - len(SHORT) + 1)
        with pytest.raises(BodiesFull):
            measuring.measure(server.url, is_stopping=lambda: False)
    with recording(SHORT, "whole") as server:
        measuring.measure(server.url, is_stopping=lambda: False)
    assert measuring._budget._left == MIB  # what is done gives its share back


def test_environment_proxies_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would see what is fetched, and past the guard."""
    with recording(SHORT) as proxy, recording(SHORT) as server:
        for name in ("http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert measure(server.url).format == "wav"
    assert (len(server.requests), proxy.requests) == (1, [])
