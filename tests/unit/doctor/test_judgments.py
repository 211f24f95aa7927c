"""What the doctor makes of what it was told: pure judgments, a row for each."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from relay.doctor import Finding, Level, backlog, clocks, configuration, postgres_server, redis_server, surroundings
from relay.doctor.transport import judged as judged_transport
from relay.outbox import Audit
from relay.queues import OUTBOX_LANES
from relay.settings import proxy_variables
from relay.store.openable import Sample
from relay.store.server import ServerFacts

OK, WARN, FAIL, SKIPPED = Level.OK, Level.WARN, Level.FAIL, Level.SKIPPED
MIB = 1024 * 1024


def assert_judged(finding: Finding, level: Level, found: str = "") -> None:
    """This level, with a way out where it is not good, saying this."""
    assert finding.level == level
    assert found in finding.found
    assert bool(finding.advice) == (level in (WARN, FAIL))


@pytest.mark.parametrize(
    ("version", "level"),
    [("6.2.14", OK), ("7.0.0", OK), ("10.1", OK), ("6.0.16", FAIL), ("5.0", FAIL), ("unknown", FAIL)],
)
def test_the_version_of_redis(version: str, level: Level) -> None:
    """6.2 or newer, by number and not by text."""
    assert_judged(redis_server.judged_version({"redis_version": version}), level, version)


@pytest.mark.parametrize(("role", "level"), [("master", OK), ("slave", FAIL), ("replica", FAIL)])
def test_the_role_of_redis(role: str, level: Level) -> None:
    """A primary."""
    assert_judged(redis_server.judged_role({"role": role, "connected_slaves": 2}), level)


@pytest.mark.parametrize(
    ("info", "level", "found"),
    [
        ({"maxmemory_policy": "noeviction", "cluster_enabled": 0}, OK, "noeviction"),
        ({}, OK, ""),  # some providers do not tell
        ({"maxmemory_policy": "allkeys-lru"}, FAIL, "evicts (allkeys-lru)"),
        ({"maxmemory_policy": "volatile-ttl"}, FAIL, "evicts (volatile-ttl)"),
        ({"cluster_enabled": 1}, FAIL, "Cluster"),
    ],
)
def test_whether_redis_keeps_everything(info: dict[str, Any], level: Level, found: str) -> None:
    """As processes judge it at their start."""
    assert_judged(redis_server.judged_fitness(info), level, found)


@pytest.mark.parametrize(
    ("used", "most", "level"),
    [(10, 100, OK), (70, 100, OK), (71, 100, WARN), (85, 100, WARN), (86, 100, FAIL), (10, 0, WARN)],
)
def test_the_memory_of_redis(used: int, most: int, level: Level) -> None:
    """A limit, and the share at which web refuses."""
    assert_judged(redis_server.judged_memory({"used_memory": used * MIB, "maxmemory": most * MIB}), level)


@pytest.mark.parametrize(
    ("info", "levels"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok"}, (OK, OK)),
        ({"aof_enabled": 0}, (WARN, OK)),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, (FAIL, OK)),
        ({"aof_enabled": 1, "aof_last_bgrewrite_status": "err"}, (WARN, OK)),
        ({"aof_enabled": 1, "rdb_last_bgsave_status": "err"}, (OK, FAIL)),
    ],
)
def test_the_persistence_of_redis(info: dict[str, Any], levels: tuple[Level, Level]) -> None:
    """The append-only file, then the snapshots."""
    findings = list(redis_server.judged_persistence(info))
    for finding, level in zip(findings, levels, strict=True):
        assert_judged(finding, level)


@pytest.mark.parametrize(("policy", "level"), [("always", OK), ("everysec", WARN), ("no", WARN)])
def test_when_redis_writes(policy: str, level: Level) -> None:
    """What is not `always` may lose something with the machine."""
    assert_judged(redis_server.judged_appendfsync(policy), level, policy)


@pytest.mark.parametrize("server", ["redis", "postgres"])
@pytest.mark.parametrize(
    ("host", "encrypted", "verified", "level"),
    [
        ("", False, False, OK),
        ("/tmp/sockets", False, False, OK),
        ("localhost", False, False, OK),
        ("127.0.0.1", False, True, OK),
        ("::1", False, False, OK),
        ("10.0.0.7", True, True, OK),
        ("10.0.0.7", True, False, WARN),
        ("10.0.0.7", False, True, WARN),
        ("redis.example", False, False, WARN),
    ],
)
def test_whether_the_way_to_a_server_can_be_read(
    server: str, host: str, encrypted: bool, verified: bool, level: Level
) -> None:
    """TLS that is verified, unless nothing leaves this machine."""
    assert_judged(judged_transport(server, host=host, encrypted=encrypted, verified=verified), level)


@pytest.mark.parametrize(
    ("ahead", "level", "found"),
    [
        (0.0, OK, "0.0 s"),
        (2.0, OK, "2.0 s ahead"),
        (2.1, WARN, "2.1 s ahead"),
        (-2.1, WARN, "2.1 s behind"),
        (60.0, WARN, "ahead"),
        (60.5, FAIL, "60.5 s ahead"),
        (-3600.0, FAIL, "3600.0 s behind"),
    ],
)
def test_the_clocks(ahead: float, level: Level, found: str) -> None:
    """More than 2 s is worth a look, more than a minute is on the way to refused signatures."""
    assert_judged(clocks.judged("redis", ahead), level, found)


def postgres(**changes: Any) -> ServerFacts:
    """A server as it should be, with some of it otherwise."""
    facts: dict[str, Any] = {
        "version_number": 180_003,
        "version": "18.3",
        "time_zone": "UTC",
        "is_read_only": False,
        "is_standby": False,
        "is_encrypted": False,
    }
    return ServerFacts(**facts | changes)


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (postgres_server.judged_version(postgres()), OK),
        (postgres_server.judged_version(postgres(version_number=139_999)), WARN),
        (postgres_server.judged_writes(postgres()), OK),
        (postgres_server.judged_writes(postgres(is_read_only=True)), FAIL),
        (postgres_server.judged_writes(postgres(is_standby=True, is_read_only=True)), FAIL),
        (postgres_server.judged_time_zone(postgres()), OK),
        (postgres_server.judged_time_zone(postgres(time_zone="Etc/UTC")), OK),
        (postgres_server.judged_time_zone(postgres(time_zone="Europe/Berlin")), WARN),
        (postgres_server.judged_revision("0003", head="0003"), OK),
        (postgres_server.judged_revision("0002", head="0003"), FAIL),
        (postgres_server.judged_revision("0004", head="0003"), FAIL),
        (postgres_server.judged_revision(None, head="0003"), FAIL),
        (postgres_server.judged_partitions([]), OK),
        (postgres_server.judged_partitions(["attempts_20261121"]), WARN),
        (configuration.judged_sample(Sample(tried=3, closed=0)), OK),
        (configuration.judged_sample(Sample(tried=3, closed=1)), FAIL),
        (backlog.judged_outcomes(0, 0), OK),
        (backlog.judged_outcomes(7, 60_000), OK),
        (backlog.judged_outcomes(7, 60_001), WARN),
        (surroundings.judged_proxies([]), OK),
        (surroundings.judged_proxies(["HTTPS_PROXY"]), WARN),
        (surroundings.judged_http(allowed=False), OK),
        (surroundings.judged_http(allowed=True), WARN),
        (surroundings.judged_token(is_set=True, is_development=False), OK),
        (surroundings.judged_token(is_set=False, is_development=False), WARN),
        (surroundings.judged_token(is_set=False, is_development=True), WARN),
    ],
)
def test_the_rest(finding: Finding, level: Level) -> None:
    """Postgres, configuration, outcomes, and what lies around."""
    assert_judged(finding, level)


@pytest.mark.parametrize(
    ("mirrored", "stored", "is_complete", "level", "found"),
    [
        ({}, {}, False, OK, "0 account(s)"),
        ({"a": 1}, {"a": 1}, True, OK, "1 account(s)"),
        ({"a": 1}, {"a": 1}, False, WARN, "complete"),
        ({"a": 1}, {"a": 2}, True, WARN, "1 of 1"),
        ({}, {"a": 1, "b": 1}, True, WARN, "2 of 2"),
        ({"a": 3}, {"a": 2}, True, FAIL, "1 account(s) are newer"),
        ({"a": 1, "gone": 1}, {"a": 1}, True, FAIL, "1 account(s) are not in Postgres"),
        ({"a": 2, "gone": 1}, {"a": 1}, True, FAIL, "1 account(s) are newer"),
        ({"a": 3, "b": 1}, {"a": 2, "b": 2}, True, FAIL, "newer"),
    ],
)
def test_the_mirror(
    mirrored: dict[str, int], stored: dict[str, int], is_complete: bool, level: Level, found: str
) -> None:
    """Behind is a matter of a minute; newer than Postgres means that Postgres is not what it was."""
    [finding] = configuration.judged_mirror(mirrored, stored, is_complete=is_complete)
    assert_judged(finding, level, found)


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, (OK, OK)),
        ({"accepted": 6}, (FAIL, OK)),
        ({"accepted": 4}, (FAIL, OK)),
        ({"late_ms": 60_000}, (OK, OK)),
        ({"late_ms": 60_001}, (OK, WARN)),
    ],
)
@pytest.mark.parametrize("lane", OUTBOX_LANES)
def test_the_outbox(lane: str, changes: dict[str, int], levels: tuple[Level, Level]) -> None:
    """Every accepted unit is somewhere, and none is due for long."""
    counts = {"waiting": 1, "in_flight": 1, "late_ms": 0, "accepted": 5, "delivered": 1, "dead": 1, "lost": 1}
    findings = list(backlog.judged_lane(lane, Audit(**counts | changes, keys=1)))
    for finding, level in zip(findings, levels, strict=True):
        assert_judged(finding, level)


@pytest.mark.parametrize(
    ("networks", "is_development", "level"),
    [
        ([], False, OK),
        (["10.0.0.0/8"], False, WARN),
        (["10.0.0.0/8"], True, OK),
        (["fd00::/8"], False, WARN),
        (["93.184.216.0/24"], False, OK),
        (["8.0.0.0/5"], False, WARN),  # 10.0.0.0/8 is in it
    ],
)
def test_networks_that_may_be_delivered_to(networks: list[str], is_development: bool, level: Level) -> None:
    """A private one is a door into it."""
    parsed = [ipaddress.ip_network(network) for network in networks]
    assert_judged(surroundings.judged_networks(parsed, is_development=is_development), level)


def test_names_the_proxies_that_are_set() -> None:
    """Whatever their case; an empty one is none, and no value is told."""
    environ = {"HTTPS_PROXY": "http://user:secret@proxy", "http_proxy": "", "ALL_proxy": "x", "NO_PROXY": "*"}
    assert proxy_variables(environ) == ("ALL_proxy", "HTTPS_PROXY")
