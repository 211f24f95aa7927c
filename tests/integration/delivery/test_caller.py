"""The caller: many threads wait for their answers over one transport, and no more of them than may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from relay.content import Content
from relay.delivery import caller as caller_module
from relay.delivery.caller import MOST_BYTES, MOST_CALLS, Caller
from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Finished, Request, Transport
from relay.errors import ContextBusy, Unavailable
from tests.answering import answer, answering
from tests.raw_server import LOOPBACK
from tests.waiting import eventually

WHOLE = answer(b"the answer", content_type="text/plain")


def open_transport() -> Transport:
    """A transport that may call loopback."""
    return Transport(allow=LOOPBACK, user_agent="Switchhook/test")


@contextmanager
def calling(opening: Callable[[], Transport] = open_transport) -> Iterator[Caller]:
    """A caller for as long as the block lasts; no thread of it is left behind."""
    caller = Caller(opening)
    yield caller
    caller.close()
    eventually(lambda: not caller_threads(), within_seconds=5, what="the end of the caller's thread")


def caller_threads() -> list[threading.Thread]:
    """The threads that own a transport."""
    return [thread for thread in threading.enumerate() if thread.name == "caller"]


def a_request(url: str, body: bytes = b"{}", *, deadline_ms: int = 10_000, headers: Any = (b"Expect:",)) -> Request:
    """A request whose answer is wanted."""
    return Request(url=url, headers=headers, body=Content(body), deadline_ms=deadline_ms, keep_reply=True)


def said(finished: Finished) -> bytes:
    """The body of the answer."""
    assert finished.reply is not None
    return finished.reply.body.reveal()


def test_gives_each_thread_its_own_answer_over_connections_that_are_kept() -> None:
    """200 calls of 8 threads take no more connections than there are threads."""
    with answering(WHOLE) as server, calling() as caller, ThreadPoolExecutor(8) as pool:
        finished = list(pool.map(lambda _: caller.call(a_request(server.url)), range(200)))

        assert [said(one) for one in finished] == [b"the answer"] * 200
        assert server.connections <= 8


def test_starts_nothing_before_the_first_call() -> None:
    """The server may fork between making a caller and using it."""
    with calling() as caller, answering(WHOLE) as server:
        assert caller_threads() == []
        caller.call(a_request(server.url))
        assert len(caller_threads()) == 1


def test_tells_a_failure_as_deliveries_do() -> None:
    """The guard, the deadline and the resolver are the same."""
    with calling() as caller, answering(WHOLE) as server:
        server.hold()
        late = caller.call(a_request(server.url, deadline_ms=200))
        private = caller.call(a_request("http://10.0.0.1/"))

    assert late.result == AttemptResult(failure=Failure.TIMED_OUT)
    assert private.result == AttemptResult(failure=Failure.TARGET_REFUSED)


def begun(pool: ThreadPoolExecutor, caller: Caller, requests: list[Request]) -> list[Future[Finished]]:
    """Each request in a thread of its own."""
    return [pool.submit(caller.call, request) for request in requests]


@pytest.mark.parametrize(
    ("sizes", "one_more"),
    [([1] * MOST_CALLS, 1), ([MOST_BYTES - 10], 11), ([MOST_BYTES + 10], 1)],
    ids=["calls", "bytes", "one that is larger than all may be"],
)
def test_takes_no_more_at_once_than_may_be(sizes: list[int], one_more: int) -> None:
    """One call or one byte more is refused at once; when a call has ended there is room again."""
    with ExitStack() as stack:
        server = stack.enter_context(answering(WHOLE))
        caller = stack.enter_context(calling())
        pool = stack.enter_context(ThreadPoolExecutor(MOST_CALLS))
        server.hold()
        futures = begun(pool, caller, [a_request(server.url, bytes(size)) for size in sizes])
        server.await_asked(len(sizes))

        with pytest.raises(ContextBusy) as refused:
            caller.call(a_request(server.url, bytes(one_more)))

        server.release()
        assert [said(future.result()) for future in futures] == [b"the answer"] * len(sizes)
        assert said(caller.call(a_request(server.url, bytes(one_more)))) == b"the answer"
    assert (refused.value.status, refused.value.code, refused.value.retry_after_seconds) == (503, "context_busy", 1)


def test_a_request_that_cannot_be_sent_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its thread is told; the others get their answers."""
    with calling() as caller, answering(WHOLE) as server, ThreadPoolExecutor(1) as pool:
        server.hold()
        [other] = begun(pool, caller, [a_request(server.url)])
        server.await_asked(1)

        with pytest.raises(Unavailable):
            caller.call(a_request(server.url, headers=(object(),)))

        server.release()
        assert said(other.result()) == b"the answer"
    assert [record.msg for record in caplog.records] == ["request_unsendable"]


def test_a_transport_that_fails_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waited for it is told to come again; the next call has a new one."""
    opened: list[Transport] = []

    def opening() -> Transport:
        opened.append(open_transport())
        if len(opened) == 1:
            opened[0].step = broken  # type: ignore[method-assign]
        return opened[-1]

    def broken(wait_seconds: float) -> list[Finished]:
        raise OSError("epoll is gone")

    with calling(opening) as caller, answering(WHOLE) as server:
        with pytest.raises(Unavailable):
            caller.call(a_request(server.url))
        eventually(lambda: not caller_threads(), within_seconds=5, what="the end of the thread")
        assert said(caller.call(a_request(server.url))) == b"the answer"
    assert (len(opened), [record.msg for record in caplog.records]) == (2, ["caller_failed"])


def test_a_transport_that_is_stuck_holds_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread gives up a little after its deadline, and what it held is free again."""
    monkeypatch.setattr(caller_module, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(caller_module, "MOST_CALLS", 1)
    unstuck = threading.Event()

    def opening() -> Transport:
        transport = open_transport()
        step = transport.step

        def stuck(wait_seconds: float) -> list[Finished]:
            unstuck.wait()
            return step(wait_seconds)

        transport.step = stuck  # type: ignore[method-assign]
        return transport

    with calling(opening) as caller, answering(WHOLE) as server:
        with pytest.raises(Unavailable):
            caller.call(a_request(server.url, deadline_ms=100))
        unstuck.set()
        assert said(caller.call(a_request(server.url))) == b"the answer"
