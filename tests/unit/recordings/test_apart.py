"""Parsing in a process of its own: what comes out, and what hostile files can and cannot do."""

from __future__ import annotations

import io
import os
import signal
import time
from typing import Any

import psutil
import pytest

from relay.content import Content
from relay.recordings import apart
from relay.recordings.fetch import Part, Span
from relay.recordings.measure import measured
from relay.recordings.ranges import Recording
from relay.recordings.unmeasured import Unmeasured
from tests import audio
from tests.waiting import eventually


class InMemory:
    """A file, given whole."""

    def __init__(self, file: bytes) -> None:
        self.file = file

    def get(self, span: Span | None, **_: Any) -> Part:
        assert span is None or not span.first
        return Part(Content(self.file), is_whole=True)


def recording_of(file: bytes) -> Recording:
    return Recording(InMemory(file), most_bytes=1 << 30)


def refusal_of(file: bytes, *, seconds: float = 30.0) -> tuple[str, str, bool]:
    with pytest.raises(Unmeasured) as refusal:
        apart.measured_apart(recording_of(file), ends_at=time.monotonic() + seconds)
    return refusal.value.code, refusal.value.detail_code, refusal.value.permanent


@pytest.mark.parametrize(
    "file",
    [audio.wav(61_500), audio.mp3(1000), audio.opus(960_000), audio.vorbis(16_000), audio.m4a(7), audio.flac(99)],
)
def test_measures_as_here(file: bytes) -> None:
    """The same as without a process in between."""
    found = apart.measured_apart(recording_of(file), ends_at=time.monotonic() + 30)
    assert found == measured(io.BytesIO(file))


@pytest.mark.parametrize(
    ("file", "code"), [(b"", "not_audio"), (b"<html>" * 9, "not_audio"), (audio.flac(0), "no_duration")]
)
def test_tells_why_not(file: bytes, code: str) -> None:
    """Its code, for good."""
    assert refusal_of(file) == (code, code, True)


def test_what_never_ends_is_ended() -> None:
    """A file that looks like MP3 and is none keeps a parser busy for a minute; the deadline is its end."""
    began = time.monotonic()
    assert refusal_of(b"\0" * (60 << 20)) == ("not_audio", "not_audio", True)
    usual_seconds = time.monotonic() - began
    began = time.monotonic()
    assert refusal_of(b"\xff\xfb" + b"\xff" * (60 << 20), seconds=0.7) == ("not_audio", "parser_hung", True)
    assert time.monotonic() - began < 3 + usual_seconds
    assert children() == []


def test_what_takes_all_memory_gets_none() -> None:
    """A packet of Ogg that never ends would be kept whole: the child's memory is bounded, this process' untouched."""
    page = b"OggS\x00\x00" + bytes(12) + b"\x01" * 8 + b"\xff" + b"\xff" * 255 + bytes(255 * 255)
    before = psutil.Process().memory_info().rss
    file = page * 4500  # 290 MB, which one packet holds
    held = psutil.Process().memory_info().rss - before
    assert refusal_of(file) == ("not_audio", "not_audio", True)
    assert psutil.Process().memory_info().rss - before < held + 30 * 1024 * 1024


class Fatal(InMemory):
    """A recording whose child gets a signal when it asks for the second time."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(audio.mp3(100_000))
        self._number = number

    def get(self, span: Span | None, **_: Any) -> Part:
        assert span is not None
        if span.first:
            (child,) = children()
            os.kill(child.pid, self._number)
            # Not waited for: that would take its end away from whoever started it.
            eventually(lambda: child.status() == psutil.STATUS_ZOMBIE, within_seconds=10, what="its end")
        return Part(Content(self.file[span.first : span.last + 1]), is_whole=False, span=span, total=len(self.file))


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (signal.SIGKILL, ("not_audio", "parser_died", False)),  # by the kernel, for want of memory: not its own fault
        (signal.SIGSEGV, ("not_audio", "parser_died", False)),
        (signal.SIGXCPU, ("not_audio", "parser_hung", True)),
    ],
)
def test_a_child_that_dies_takes_nobody_with_it(number: signal.Signals, outcome: tuple[str, str, bool]) -> None:
    """Why it died says whether another try may help."""
    recording = Recording(Fatal(number), most_bytes=1 << 30)
    with pytest.raises(Unmeasured) as refusal:
        apart.measured_apart(recording, ends_at=time.monotonic() + 30)
    assert (refusal.value.code, refusal.value.detail_code, refusal.value.permanent) == outcome


class Watching(InMemory):
    """Looks at the child while it waits for the second piece."""

    def __init__(self) -> None:
        super().__init__(audio.m4a(7, sound=1 << 20))
        self.environment: dict[str, str] = {"not": "seen"}
        self.limits: dict[str, tuple[int, int]] = {}
        self.files: list[str] = ["not seen"]

    def get(self, span: Span | None, **_: Any) -> Part:
        assert span is not None
        if span.first:
            (child,) = children()
            self.environment = child.environ()
            self.files = [file.path for file in child.open_files()]
            for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
                self.limits[name] = child.rlimit(getattr(psutil, name))
        return Part(Content(self.file[span.first : span.last + 1]), is_whole=False, span=span, total=len(self.file))


def test_the_child_has_nothing_but_its_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings or keys in its environment, no files, none that it could open, write or leave behind."""
    monkeypatch.setenv("SWITCHHOOK_KEYS", "a key that must not be there")
    watching = Watching()
    apart.measured_apart(Recording(watching, most_bytes=1 << 30), ends_at=time.monotonic() + 30)
    assert (watching.environment, watching.files) == ({}, [])
    assert watching.limits == dict.fromkeys(("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE"), (0, 0))


def children() -> list[psutil.Process]:
    """The parsers of this process."""
    return [one for one in psutil.Process().children() if "relay.recordings.child" in " ".join(one.cmdline())]
