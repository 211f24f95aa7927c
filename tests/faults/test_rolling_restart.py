"""F17: every process is replaced under load by SIGTERM, and no sender finds the door shut."""

from __future__ import annotations

import itertools
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.processes import ManagedProcess
from tests.receiver import Receiver
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

# What platforms allow between SIGTERM and SIGKILL.
GRACE_SECONDS = 30
PER_SECOND = 50
BACKLOG = 2048


@pytest.fixture
def held(stack: Stack) -> Iterator[socket.socket]:
    """A listening socket on the stack's port that outlives the web processes, as systemd keeps one."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", stack.settings.port))
        listening.listen(BACKLOG)
        yield listening


def spawn_web(stack: Stack, held: socket.socket) -> ManagedProcess:
    """A web process on the socket that is held for it."""
    return stack.spawn("web", "--fd", str(held.fileno()), descriptors=[held.fileno()])


def spawn_beat(stack: Stack) -> ManagedProcess:
    """A beat process that would end in an orderly way."""
    beat = stack.spawn("beat")
    eventually(lambda: handles_sigterm(beat), within_seconds=GRACE_SECONDS, what="a beat that handles SIGTERM")
    return beat


def handles_sigterm(process: ManagedProcess) -> bool:
    """Whether SIGTERM would run a handler of the process, by the kernel's account (proc(5))."""
    [caught] = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.heavy, pytest.mark.timeout(600)])])
def test_processes_that_are_replaced_refuse_lose_and_repeat_nothing(
    stack: Stack, held: socket.socket, traffic: Traffic, receiver: Receiver, rounds: int
) -> None:
    """Each of web, worker and beat ends by itself and in time, and every webhook, on its own connection, is taken.

    The new web is started when the old one has ended, and the next time before that is asked to end.
    """
    receiver.usual_reply(200, delay_seconds=0.1)  # so that something is in flight at most moments
    stack.use_fresh_connections()
    web = spawn_web(stack, held)
    [worker] = stack.start("worker")
    beat = spawn_beat(stack)
    stack.await_web(web)

    with traffic.flowing(per_second=PER_SECOND) as sent:
        for number in range(rounds):
            is_successor_first = number % 2 == 1
            old = [web, worker, beat]
            if is_successor_first:
                web = spawn_web(stack, held)
            old[0].terminate()
            ended = [old[0].wait(GRACE_SECONDS)]
            if not is_successor_first:
                web = spawn_web(stack, held)
            [worker] = stack.start("worker")
            beat = spawn_beat(stack)
            for process in old[1:]:
                process.terminate()
            ended += [process.wait(GRACE_SECONDS) for process in old[1:]]
            assert ended == [0, 0, 0]
            stack.await_web(web)

    assert traffic.refused == []
    assert len(traffic.accepted) == len(sent) > 0
    traffic.assert_ledgers_agree()


class Caller:
    """A provider on a connection of its own, who sends a webhook bit by bit."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self._connection = connection
        self._unsent = request

    def say(self, part: float) -> None:
        """Send this part of what is left."""
        count = round(len(self._unsent) * part)
        self._connection.sendall(self._unsent[:count])
        self._unsent = self._unsent[count:]

    def hear(self) -> bytes:
        """The status line of the answer; nothing if the connection was closed without one."""
        return self._connection.recv(4096).partition(b"\r\n")[0]


Call = Callable[[int], list[Caller]]


@pytest.fixture
def call(stack: Stack, customer: Customer) -> Iterator[Call]:
    """Connects so many callers of one source."""
    source = customer.source("retell")
    numbers = itertools.count()

    def request() -> bytes:
        body = retell_event("call_ended", f"call_{next(numbers)}")
        headers = {"Host": "localhost", "Content-Length": str(len(body)), **retell_headers(body, source.secret)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {source.url.removeprefix(stack.url)} HTTP/1.1\r\n{head}\r\n".encode() + body

    with ExitStack() as exits:

        def call(count: int) -> list[Caller]:
            address = ("127.0.0.1", stack.settings.port)
            connections = [exits.enter_context(socket.create_connection(address, GRACE_SECONDS)) for _ in range(count)]
            return [Caller(connection, request()) for connection in connections]

        yield call


def refuses(stack: Stack) -> bool:
    """Whether nobody listens on the stack's port any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", stack.settings.port)) != 0


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.heavy)])
def test_a_web_that_is_asked_to_stop_answers_whoever_has_connected(stack: Stack, call: Call, times: int) -> None:
    """Some have said nothing yet, some half of their webhook, and some wait for the commit.

    Many times, since SIGTERM comes while web makes threads for these requests, which could keep it from being noticed.
    """
    stack.use_fresh_connections()
    for _ in range(times):
        [web] = stack.start("web")
        silent, halfway, waiting = call(10), call(11), call(11)
        for caller in halfway:
            caller.say(0.5)
        assert stack.get("/livez").ok  # connected last and answered: those before are accepted
        stack.redis_server.pause()
        for caller in waiting:
            caller.say(1)

        web.terminate()
        eventually(lambda: refuses(stack), within_seconds=5, what="a closed port")
        stack.redis_server.resume()
        for caller in silent + halfway:
            caller.say(1)

        assert {caller.hear() for caller in silent + halfway + waiting} == {b"HTTP/1.1 200 OK"}
        assert web.wait(GRACE_SECONDS) == 0


@pytest.mark.heavy
def test_a_web_that_is_asked_to_stop_ends_in_time_though_senders_never_finish(stack: Stack, call: Call) -> None:
    """32 bodies that never come to their end are cut off without an answer."""
    stack.use_fresh_connections()
    [web] = stack.start("web")
    callers = call(32)
    for caller in callers:
        caller.say(0.5)
    assert stack.get("/livez").ok

    web.terminate()

    assert web.wait(GRACE_SECONDS) == 0
    assert {caller.hear() for caller in callers} == {b""}
