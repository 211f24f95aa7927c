"""One running system for all tests of abuse: nothing here may break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from relay.outbox import Outbox
from relay.queues import OUTBOX_LANES
from tests.stack import Stack, fresh_stack


@pytest.fixture(scope="package")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """`switchhook web` and `worker`. Endpoints may be made anywhere in 127.0.0.0/8; the worker sends to 127.0.0.1 only.

    At the end every process still runs, nothing is unaccounted for, and no lane met an error that it did not expect.
    """
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as stack:
        stack.env["SWITCHHOOK_EGRESS_ALLOW"] = "127.0.0.1/32"
        web, worker = stack.start("web", "worker")
        yield stack
        assert (web.is_running, worker.is_running) == (True, True)
        assert [Outbox(stack.redis).audit(lane).unaccounted for lane in OUTBOX_LANES] == [0, 0, 0]
        failures = [line for process in (web, worker) for line in process.events() if "_failed" in line["event"]]
        assert failures == []
