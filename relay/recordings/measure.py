"""How long a recording lasts: a pure function of a file that can be read and sought.

WAVE is read by `riff`, everything else by tinytag. MP3 without a length in its header is estimated by its bit rate.
"""

from __future__ import annotations

import struct
from decimal import ROUND_HALF_UP, Decimal
from typing import BinaryIO, Final, NamedTuple

from tinytag import TinyTag, TinyTagException

from relay.recordings import riff
from relay.recordings.unmeasured import NO_DURATION, NOT_AUDIO, Unmeasured

_MILLISECOND: Final = Decimal("0.001")
_HEAD_BYTES: Final = 12
_WAV: Final = "wav"
# By the beginning of tinytag's MIME type, the longer ones first.
_FORMATS: Final = {
    'audio/ogg; codecs="opus"': "opus",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/flac": "flac",
}


class Measured(NamedTuple):
    """A duration to the millisecond, and the format that told it."""

    seconds: Decimal
    format: str


def measured(file: BinaryIO) -> Measured:
    """Measure a recording. Raises Unmeasured: `not_audio` for what is no file of a known format, else `no_duration`."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    seconds, kind = _wave(file) if riff.is_wave(head) else _tagged(file)
    if seconds is None or not seconds.is_finite() or seconds <= 0:
        raise Unmeasured(NO_DURATION, permanent=True)
    # Less than half of one would round to nothing, and absent is not zero.
    return Measured(max(seconds.quantize(_MILLISECOND, ROUND_HALF_UP), _MILLISECOND), kind)


def _wave(file: BinaryIO) -> tuple[Decimal | None, str]:
    try:
        return riff.seconds_of(file), _WAV
    except struct.error:
        raise Unmeasured(NOT_AUDIO, permanent=True) from None


def _tagged(file: BinaryIO) -> tuple[Decimal | None, str]:
    try:
        found = TinyTag.get(file_obj=file, tags=False)
    except TinyTagException:
        raise Unmeasured(NOT_AUDIO, permanent=True) from None
    kind = next((name for start, name in _FORMATS.items() if (found.mime_type or "").startswith(start)), None)
    if kind is None:
        raise Unmeasured(NOT_AUDIO, permanent=True)
    return None if found.duration is None else Decimal(repr(found.duration)), kind
