"""Content: every accidental way out of the process, or into text, is shut."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from relay.content import Content, ContentLeak
from tests.leaks import Leaks

CANARY = "words-of-a-caller"
BODY = CANARY.encode()


@pytest.fixture(autouse=True)
def on_purpose(content_leaks: Leaks) -> Iterator[None]:
    """What these tests try does not count as a leak."""
    yield
    content_leaks.taken()


@dataclasses.dataclass(frozen=True)
class Holder:
    """Anything that has content in a field."""

    content: Content


def test_gives_its_bytes_to_who_asks_for_them() -> None:
    """The one way, by a name that can be searched for."""
    assert Content(BODY).reveal() == BODY
    assert len(Content(BODY)) == len(BODY)
    assert not Content(b"")


@pytest.mark.parametrize(
    "way_out",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(ascii, id="ascii"),
        pytest.param(lambda c: f"{c}", id="f-string"),
        pytest.param(lambda c: f"{c!r:>10}", id="f-string with repr"),
        pytest.param(lambda c: f"{c:>10}", id="f-string with a format"),
        pytest.param(lambda c: "%s" % c, id="percent s"),  # noqa: UP031  the way is the point
        pytest.param(lambda c: "%r" % (c,), id="percent r"),  # noqa: UP031
        pytest.param("{}".format, id="str.format"),
        pytest.param(format, id="format"),
        pytest.param(lambda c: print(c, file=io.StringIO()), id="print"),
        pytest.param(lambda c: pprint.pformat({"content": c}), id="pprint"),
        pytest.param(lambda c: repr([{"content": c}]), id="repr of a container"),
        pytest.param(lambda c: repr(Holder(c)), id="repr of a dataclass"),
        pytest.param(bytes, id="bytes"),
        pytest.param(bytearray, id="bytearray"),
        pytest.param(memoryview, id="memoryview"),
        pytest.param(list, id="list"),
        pytest.param(lambda c: [*c], id="unpacking"),
        pytest.param(lambda c: b"w" in c, id="in"),
        pytest.param(lambda c: c[0], id="index"),
        pytest.param(lambda c: c + b"", id="plus"),
        pytest.param(lambda c: b"".join([c]), id="bytes.join"),
        pytest.param(lambda c: "".join([c]), id="str.join"),
        pytest.param(pickle.dumps, id="pickle"),
        *(pytest.param(lambda c, p=p: pickle.dumps(c, p), id=f"pickle protocol {p}") for p in range(6)),
        pytest.param(lambda c: pickle.dumps(Holder(c)), id="pickle of a holder"),
        pytest.param(lambda c: c.__getstate__(), id="getstate"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(lambda c: copy.deepcopy([c]), id="deepcopy"),
        pytest.param(lambda c: dataclasses.asdict(Holder(c)), id="asdict"),
        pytest.param(lambda c: json.dumps({"content": c}), id="json"),
        pytest.param(lambda c: json.dumps({"content": c}, default=str), id="json with str"),
        pytest.param(lambda c: json.dumps({"content": c}, default=vars), id="json with vars"),
        pytest.param(lambda c: msgspec.json.encode({"content": c}), id="msgspec"),
        pytest.param(msgspec.msgpack.encode, id="msgpack"),
        pytest.param(lambda c: c == Content(BODY), id="equal"),
        pytest.param(lambda c: c != BODY, id="not equal"),
        pytest.param(lambda c: c == c, id="equal to itself"),  # noqa: PLR0124
        pytest.param(lambda c: sorted([c, c]), id="sort"),
        pytest.param(hash, id="hash"),
        pytest.param(lambda c: {c: 1}, id="dict key"),
        pytest.param(vars, id="vars"),
        pytest.param(lambda c: io.BytesIO().write(c), id="write"),
    ],
)
def test_an_accidental_way_out_raises(way_out: Callable[[Any], object]) -> None:
    """A TypeError, and its text tells nothing either."""
    content = Content(BODY)
    with pytest.raises(TypeError) as refused:
        way_out(content)
    assert CANARY not in f"{refused.value!r} {refused.value}"


def test_its_refusal_has_a_name() -> None:
    """So that a log shows at once what was tried."""
    with pytest.raises(ContentLeak, match="content must not be printed"):
        str(Content(BODY))


def test_a_log_line_cannot_hold_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the line nor logging's own complaint about it."""
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("got %s", Content(BODY))
    logger.warning("got %r and %s", {"content": Content(BODY)}, "x")
    logger.warning(Content(BODY))
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err


def test_a_traceback_with_locals_does_not_show_it() -> None:
    """Error reporters print local variables; they get none of it."""

    def fail(content: Content) -> None:
        holder = {"content": content, "holder": Holder(content)}
        raise RuntimeError(len(holder))

    try:
        fail(Content(BODY))
    except RuntimeError as error:
        try:
            told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        except ContentLeak as leak:
            told = repr(leak)
    assert CANARY not in told


def test_an_exception_cannot_carry_it_into_text() -> None:
    """Whoever raises an error with content as its argument gets no text from it."""
    with pytest.raises(ContentLeak):
        str(ValueError(Content(BODY)))
