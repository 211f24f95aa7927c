"""The duration of a WAVE file, from its chunks (Microsoft, "Multimedia Programming Interface", RIFF).

A reader of our own, because telephony writes G.711 without a `fact` chunk, recorders that stream write 0 or 4 GiB for
the size of what they could not know, and a file that was cut off lasts as long as what is there of it.
"""

from __future__ import annotations

import io
import struct
from decimal import Decimal
from typing import BinaryIO, Final

_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIH")
_SAMPLES: Final = struct.Struct("<I")
# PCM, A-law and mu-law, IEEE floats, and the extensible form that is nearly always PCM: as many bytes for each sample.
_EVEN: Final = frozenset({0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE})
# More chunks before the sound than any recorder writes; `data` is skipped over, so these are all of them.
_MOST_CHUNKS: Final = 1000


def is_wave(head: bytes) -> bool:
    """Whether a file begins like one."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def seconds_of(file: BinaryIO) -> Decimal | None:
    """How long a WAVE file lasts; None if it does not tell. Raises struct.error for one that is broken."""
    size = file.seek(0, io.SEEK_END)
    position, samples = 12, 0
    rate = bytes_a_second = tag = 0
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        header = file.read(_CHUNK.size)
        if len(header) < _CHUNK.size:
            break
        name, length = _CHUNK.unpack(header)
        position += _CHUNK.size
        if name == b"fmt ":
            tag, _, rate, bytes_a_second, _ = _FORMAT.unpack(file.read(_FORMAT.size))
        elif name == b"fact" and length >= _SAMPLES.size:
            (samples,) = _SAMPLES.unpack(file.read(_SAMPLES.size))
        elif name == b"data":
            held = size - position
            length = min(length or held, held)
            if samples and rate and tag not in _EVEN:
                return Decimal(samples) / rate
            return Decimal(length) / bytes_a_second if bytes_a_second else None
        # Chunks are padded to an even size.
        position += length + length % 2
    return None
