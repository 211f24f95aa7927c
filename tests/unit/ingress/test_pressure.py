"""Pressure: when nothing more is taken in, judged by what Redis says of itself."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis

from relay.errors import Unavailable
from relay.ingress.pressure import PressureGauge, refusal_of


@pytest.mark.parametrize(
    ("info", "refusal"),
    [
        ({}, None),
        ({"maxmemory": 0, "used_memory": 10**12}, None),  # no limit is set: the machine's is not ours to know
        ({"maxmemory": 1000, "used_memory": 0}, None),
        ({"maxmemory": 1000, "used_memory": 850}, None),
        ({"maxmemory": 1000, "used_memory": 851}, "memory_full"),
        ({"maxmemory": 1000, "used_memory": 1000}, "memory_full"),
        ({"maxmemory": 1000}, None),
        ({"aof_last_write_status": "ok"}, None),
        ({"aof_last_write_status": "err"}, "disk_full"),
        ({"maxmemory": 1000, "used_memory": 999, "aof_last_write_status": "err"}, "memory_full"),
    ],
)
def test_judges_redis_by_its_own_words(info: dict[str, Any], refusal: str | None) -> None:
    """Above 85 % of its memory, or unable to write its append-only file."""
    assert refusal_of(info) == refusal


class Gauged:
    """A Redis whose words and silence a test decides."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.version: bytes | None = None
        self.is_away = False

    def pipeline(self, *, transaction: bool) -> Gauged:
        return self

    def get(self, key: str) -> None:
        assert key == "sw:config:version"

    def execute(self) -> tuple[dict[str, Any], bytes | None]:
        if self.is_away:
            raise redis.ConnectionError
        return self.info, self.version


class _Info:
    def __get__(self, gauged: Gauged, _: type[Gauged]) -> Any:
        return lambda: None


def test_refuses_from_one_look_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason as the code, an alarm when it begins and a line when it ends."""
    server = fakeredis.FakeRedis()
    answers = iter([{"maxmemory": 10, "used_memory": 10}, {"maxmemory": 10, "used_memory": 10}, {}])
    gauge = PressureGauge(_answering(server, answers))
    gauge.check()
    gauge.look()
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            gauge.check()
        assert refused.value.code == "memory_full"
    gauge.look()
    with caplog.at_level("INFO", "switchhook"):
        gauge.look()
    gauge.check()
    assert [record.msg for record in caplog.records] == ["pressure_began", "pressure_ended"]
