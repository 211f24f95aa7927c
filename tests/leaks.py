"""Watching `Content` while tests run: whatever turns it into text, or copies it unsealed, fails the test.

Content refuses by raising, and code that survives any error would survive that too: a log call, a `finally`, a thread
nobody waits for. So each refusal is noted as well, with where it happened, in whichever thread it does.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from relay.content import Content

# Enough to reach past the frames of json or logging.
_FRAMES: Final = 12


class Leaks:
    """What was tried with content since it was last asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: list[str] = []

    def note(self, way: str) -> None:
        """Remember an attempt, with the frames that led to it."""
        stack = traceback.extract_stack()[:-2][-_FRAMES:]
        trail = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in stack[::-1])
        with self._lock:
            self._noted.append(f"{way} in thread {threading.current_thread().name}: {trail}")

    def taken(self) -> list[str]:
        """All attempts so far; they are forgotten then."""
        with self._lock:
            noted, self._noted = self._noted, []
        return noted


@contextmanager
def watched() -> Iterator[Leaks]:
    """Note every attempt for as long as the block lasts. What raised before still raises."""
    leaks = Leaks()
    with pytest.MonkeyPatch.context() as patch:
        refusals = [name for name, method in vars(Content).items() if method is Content._refuse and name != "_refuse"]
        assert {"__repr__", "__str__", "__format__", "__reduce_ex__", "__deepcopy__", "__bytes__"} <= set(refusals)
        for name in refusals:
            patch.setattr(Content, name, _noting(leaks, name, Content._refuse))
        # json asks this of what it does not know: an object that refuses to be text is not asked by it at all.
        patch.setattr(json.JSONEncoder, "default", _json_noting(leaks, json.JSONEncoder.default))
        patch.setattr(json.JSONEncoder, "__init__", _wrapping_default(leaks, json.JSONEncoder.__init__))
        yield leaks


@pytest.fixture(scope="session", autouse=True)
def content_leaks() -> Iterator[Leaks]:
    """The attempts of this run. A test that makes them on purpose takes them, so that they do not count."""
    with watched() as leaks:
        yield leaks
        late = leaks.taken()
    assert late == [], "a thread that outlived its test tried to turn content into text"


@pytest.fixture(autouse=True)
def nothing_leaks(content_leaks: Leaks) -> Iterator[None]:
    """Fail a test in which anything tried to turn content into text, even if it swallowed the refusal."""
    yield
    attempts = content_leaks.taken()
    if attempts:
        pytest.fail("content was about to leak:\n" + "\n".join(attempts), pytrace=False)


def _noting(leaks: Leaks, way: str, refuse: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Content, *arguments: Any) -> Any:
        leaks.note(way)
        return refuse(self, *arguments)

    return noted


def _json_noting(leaks: Leaks, default: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        if isinstance(arguments[-1], Content):
            leaks.note("json")
        return default(*arguments)

    return noted


def _wrapping_default(leaks: Leaks, init: Callable[..., None]) -> Callable[..., None]:
    def wrapped(self: json.JSONEncoder, *, default: Any = None, **options: Any) -> None:
        init(self, default=default and _json_noting(leaks, default), **options)

    return wrapped
