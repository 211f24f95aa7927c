"""Small recordings in every format that is measured, built from their specifications; silence, but for `said`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from typing import Final

TELEPHONE_RATE: Final = 8000
_PCM, _MU_LAW, _GSM = 0x0001, 0x0007, 0x0031
_UNKNOWN_SIZE: Final = 0xFFFFFFFF


def wav(milliseconds: int, *, said: bytes = b"") -> bytes:
    """16-bit PCM at 8 kHz, with a tag and the sound that hold `said`."""
    sound = said.ljust(2 * TELEPHONE_RATE * milliseconds // 1000, b"\x00")
    return riff(_chunk(b"fmt ", _format(_PCM, 16)), _chunk(b"LIST", b"INFO" + said), _chunk(b"data", sound))


def mu_law(milliseconds: int, *, declared: int | None = None) -> bytes:
    """G.711 at 8 kHz as telephony writes it, without a `fact` chunk; `declared` is what it says of its size."""
    sound = bytes(TELEPHONE_RATE * milliseconds // 1000)
    return riff(_chunk(b"fmt ", _format(_MU_LAW, 8)), _chunk(b"data", sound, declared=declared))


def streamed(milliseconds: int) -> bytes:
    """The same from a recorder that could not know the size."""
    return mu_law(milliseconds, declared=_UNKNOWN_SIZE)


def gsm(milliseconds: int) -> bytes:
    """GSM 06.10, whose length only a `fact` chunk tells exactly: 320 samples in 65 bytes."""
    samples = TELEPHONE_RATE * milliseconds // 1000
    head = _chunk(b"fmt ", struct.pack("<HHIIHHHH", _GSM, 1, TELEPHONE_RATE, 1625, 65, 0, 2, 320))
    fact = _chunk(b"fact", struct.pack("<I", samples))
    return riff(head, fact, _chunk(b"data", bytes(65 * (samples // 320 + 1))))


def riff(*chunks: bytes) -> bytes:
    """A WAVE file of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(samples: int, *, rate: int = 16_000) -> bytes:
    """A FLAC stream of a header: mono, 16 bits; the length is in it."""
    packed = rate << 44 | 15 << 36 | samples
    info = struct.pack(">HH6xQ16x", 4096, 4096, packed)
    return b"fLaC" + bytes((0x80, 0, 0, len(info))) + info + bytes(64)


def vorbis(samples: int, *, rate: int = 16_000) -> bytes:
    """An Ogg stream of Vorbis: its first page and its last."""
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, rate, 0, 64_000, 0, 0xB8, 1)
    return b"".join(_pages([(head, 0), (bytes(200), samples)]))


def opus(samples: int, *, preskip: int = 312) -> bytes:
    """An Ogg stream of Opus, whose clock always runs at 48 kHz and starts before the sound."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, preskip, 16_000, 0, 0)
    return b"".join(_pages([(head, 0), (b"OpusTags" + bytes(8), 0), (bytes(200), samples + preskip)]))


def mp3(frames: int, *, told: bool = False) -> bytes:
    """MPEG-1 layer III, 128 kbit/s at 44.1 kHz: 1152 samples in 417 bytes. `told`: a Xing header has the number."""
    frame = b"\xff\xfb\x90\xc0" + bytes(413)
    if not told:
        return frame * frames
    xing = b"Xing" + struct.pack(">III", 3, frames, 417 * (frames + 1))
    return frame[:4] + bytes(17) + xing.ljust(396, b"\x00") + frame * 6


def m4a(units: int, *, scale: int = 1000, sound: int = 1024) -> bytes:
    """An MPEG-4 file whose description stands behind its sound, as recorders write it."""
    head = _atom(b"ftyp", b"M4A \x00\x00\x00\x00isom")
    movie = _atom(b"moov", _atom(b"mvhd", struct.pack(">IIIII80x", 0, 0, 0, scale, units)))
    return head + _atom(b"mdat", bytes(sound)) + movie


def _format(tag: int, bits: int) -> bytes:
    return struct.pack("<HHIIHH", tag, 1, TELEPHONE_RATE, TELEPHONE_RATE * bits // 8, bits // 8, bits)


def _chunk(name: bytes, body: bytes, *, declared: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if declared is None else declared) + body + b"\x00" * (len(body) % 2)


def _atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def _pages(packets: list[tuple[bytes, int]]) -> Iterator[bytes]:
    numbers = count()
    for number, (packet, granule) in zip(numbers, packets, strict=False):
        kind = (2 if number == 0 else 0) | (4 if number == len(packets) - 1 else 0)
        header = struct.pack("<4sBBqIIIB", b"OggS", 0, kind, granule, 77, number, 0, 1)
        yield header + bytes((len(packet),)) + packet
