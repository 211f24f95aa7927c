"""Pressure: when nothing more is taken in, judged by what Redis says of itself."""

from __future__ import annotations

from typing import Any

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


class ScriptedRedis:
    """Answers each look with the next pair of INFO and configuration version, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)

    def pipeline(self, *, transaction: bool) -> ScriptedRedis:
        assert not transaction
        return self

    def info(self) -> None:
        """Asked in the pipeline."""

    def xlen(self, key: str) -> int:
        """Nothing is kept that could go."""
        assert key == "sw:charged"
        return 0

    def get(self, key: str) -> None:
        assert key == "sw:config:version"

    def execute(self) -> Any:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def gauge_of(*answers: Any, versions: list[int] | None = None) -> PressureGauge:
    client: Any = ScriptedRedis(*answers)
    return PressureGauge(client, on_config_version=(versions if versions is not None else []).append)


FULL = {"maxmemory": 10, "used_memory": 10}


def test_refuses_from_one_look_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason as the code; an alarm when it begins, a line when it ends, none in between."""
    caplog.set_level("INFO", "switchhook")
    gauge = gauge_of((FULL, None), (FULL, None), ({}, None))
    gauge.check()
    for _ in range(2):
        gauge.look()
        with pytest.raises(Unavailable) as refused:
            gauge.check()
        assert (refused.value.code, refused.value.status) == ("memory_full", 503)
    gauge.look()
    gauge.check()
    assert [record.msg for record in caplog.records] == ["pressure_began", "pressure_ended"]


def test_silence_changes_nothing() -> None:
    """Whether Redis answers at all is found out by each commit."""
    gauge = gauge_of((FULL, None), redis.ConnectionError(), redis.exceptions.BusyLoadingError())
    gauge.look()
    gauge.look()
    gauge.look()
    with pytest.raises(Unavailable):
        gauge.check()


def test_tells_the_version_of_the_configuration() -> None:
    """So that an idle process sees a change within a second."""
    versions: list[int] = []
    gauge = gauge_of(({}, None), ({}, b"17"), redis.TimeoutError(), versions=versions)
    for _ in range(3):
        gauge.look()
    assert versions == [0, 17]
