"""The scanner finds a canary in every spelling that could hide it, alone and inside another."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from tests.carving import lz, postgres_pages, postgres_wal, redis_files
from tests.scanner import Scanner

CANARY = "Zq7KpXw3RtYb9LmNcVd2Hs"
SPOKEN = "café 👋 costs 5% more, she said: “no”"
SURROUNDED = f'{{"said": "{CANARY}", "more": "…"}}'

Spelling = Callable[[str], bytes]


def escaped_throughout(text: str) -> bytes:
    """Every character as JSON may write it, beyond the first plane in two halves."""
    units = text.encode("utf-16-be")
    return b'"' + b"".join(b"\\u%02x%02X" % (units[at], units[at + 1]) for at in range(0, len(units), 2)) + b'"'


SPELLINGS = [
    pytest.param(str.encode, id="as it is"),
    pytest.param(lambda t: t.encode("utf-16-le"), id="UTF-16 LE"),
    pytest.param(lambda t: t.encode("utf-16-be"), id="UTF-16 BE"),
    pytest.param(lambda t: json.dumps(t).encode(), id="JSON in ASCII"),
    pytest.param(lambda t: json.dumps(json.dumps(t)).encode(), id="JSON in JSON"),
    pytest.param(escaped_throughout, id="JSON with escapes throughout"),
    pytest.param(lambda t: repr(t.encode()).encode(), id="repr of bytes"),
    pytest.param(lambda t: "".join(f"\\x{byte:02x}" for byte in t.encode()).encode(), id="hexadecimal escapes"),
    pytest.param(lambda t: "".join(f"\\{byte:03o}" for byte in t.encode()).encode(), id="octal escapes"),
    pytest.param(lambda t: quote(t, safe="").encode(), id="URL escapes"),
    pytest.param(lambda t: quote_plus(t).encode(), id="a form"),
    pytest.param(lambda t: "".join(f"%{byte:02x}" for byte in t.encode()).encode(), id="URL escapes throughout"),
    pytest.param(lambda t: quote(quote(t)).encode(), id="URL escapes twice"),
    *(
        pytest.param(lambda t, n=n: base64.b64encode(b"-" * n + t.encode() + b"-" * 5), id=f"base64, phase {n}")
        for n in range(3)
    ),
    *(
        pytest.param(lambda t, n=n: b"x" * n + base64.b64encode(t.encode()), id=f"base64 behind {n} letters")
        for n in range(4)
    ),
    pytest.param(lambda t: base64.urlsafe_b64encode(b"\xfb\xff" + t.encode()), id="base64 for URLs"),
    pytest.param(lambda t: base64.encodebytes(b"-" * 70 + t.encode() * 2), id="base64 in lines"),
    pytest.param(lambda t: t.encode().hex().encode(), id="hex"),
    pytest.param(lambda t: b"a" + t.encode().hex().upper().encode(), id="hex behind a digit"),
    pytest.param(lambda t: gzip.compress(t.encode()), id="gzip"),
    pytest.param(lambda t: gzip.compress(t.encode() * 99)[:-20], id="gzip cut off"),
    pytest.param(lambda t: zlib.compress(t.encode()), id="zlib"),
    pytest.param(lambda t: zlib.compress(t.encode(), level=1, wbits=9), id="zlib with a small window"),
    pytest.param(lambda t: base64.b64encode(gzip.compress(json.dumps(t).encode())), id="JSON in gzip in base64"),
    pytest.param(lambda t: gzip.compress(quote(t).encode()).hex().encode(), id="URL escapes in gzip in hex"),
]  # fmt: skip


@pytest.mark.parametrize("canary", [CANARY, SPOKEN], ids=["a token", "a sentence"])
@pytest.mark.parametrize("around", [b"", b"\x00\xff\x1f\x8b", b' {"a":1} '], ids=["alone", "in bytes", "in text"])
@pytest.mark.parametrize("spell", SPELLINGS)
def test_finds_every_spelling(spell: Spelling, around: bytes, canary: str) -> None:
    """Wherever it stands."""
    assert Scanner([canary, "something else"]).found_in(around + spell(canary) + around) == {canary}


@pytest.mark.parametrize("spell", SPELLINGS)
def test_finds_nothing_where_nothing_is(spell: Spelling) -> None:
    """The scan of something else is empty, or no scan would say anything."""
    assert Scanner([CANARY]).found_in(spell(CANARY[::-1])) == set()


def test_names_where_it_was_found() -> None:
    """Place and canary."""
    places = [("a", b"nothing"), ("b", SURROUNDED.encode()), ("c", SURROUNDED.encode().hex().encode())]
    assert Scanner([CANARY]).found_in_all(places) == {("b", CANARY), ("c", CANARY)}


def test_finds_it_again() -> None:
    """What was clean is remembered, what was not is not."""
    scanner = Scanner([CANARY])
    for _ in range(2):
        assert scanner.found_in(SURROUNDED.encode()) == {CANARY}
        assert scanner.found_in(b"clean") == set()


@pytest.mark.parametrize("grown", [CANARY.encode(), b"-" * 70_000 + CANARY.encode(), b"", CANARY.encode()[9:]])
def test_looks_at_what_has_grown(grown: bytes) -> None:
    """Of a large place that was clean, from a little before its end on."""
    scanner = Scanner([CANARY])
    before = b"=" * 200_000 + CANARY.encode()[:9]
    assert scanner.found_in_all([("log", before)]) == set()
    expected = {("log", CANARY)} if CANARY.encode() in before + grown else set()
    for _ in range(2):
        assert scanner.found_in_all([("log", before + grown)]) == expected


def test_looks_again_at_what_has_changed() -> None:
    """At the same size, in its first block."""
    scanner = Scanner([CANARY])
    assert scanner.found_in_all([("file", b"=" * 200_000)]) == set()
    assert scanner.found_in_all([("file", CANARY.encode() + b"=" * (200_000 - len(CANARY)))]) == {("file", CANARY)}


def test_refuses_to_scan_nothing() -> None:
    """An empty scan finds nothing, which proves nothing."""
    with pytest.raises(AssertionError, match="proves nothing"):
        Scanner([CANARY]).found_in_all([("a", b"")])


# -- the formats of the servers: literals, references, and what is none of it


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc", b"abc"),
        (b"\x00a\xe0\x01\x00", b"a" * 11),  # a reference of 10 to the one character before
        (b"\x02abc\x20\x02", b"abcabc"),
        (b"\x00a\x20\x05", None),  # a reference to before the beginning
        (b"\x05abc", None),  # fewer literals than announced
        (b"", None),
    ],
)
def test_decompresses_lzf(packed: bytes, plain: bytes | None) -> None:
    """LibLZF's format; None for what is not."""
    assert lz.lzf(packed, 3 if plain is None else len(plain)) == plain


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x00abc", b"abc"),
        (b"\x02a\x07\x01", b"a" * 11),  # length 10 at distance 1
        (b"\x08abc\x0f\x03\x05", b"abc" + b"abc" * 7 + b"ab"),  # 18 + 5 at distance 3
        (b"\x01\x00\x01", None),
        (b"\x02a\x00", None),
        (b"", None),
    ],
)
def test_decompresses_pglz(packed: bytes, plain: bytes | None) -> None:
    """Postgres' format; None for what is not."""
    assert lz.pglz(packed, 3 if plain is None else len(plain)) == plain


@pytest.mark.parametrize("garbage", [bytes(range(256)) * 64, b"\xc3" * 9000, b"\xff" * 16384, b"\x06\x00" * 8192])
def test_takes_no_harm_from_garbage(garbage: bytes) -> None:
    """Files hold anything."""
    assert Scanner([CANARY]).found_in(garbage) == set()
    assert list(redis_files.compressed_strings(garbage)) == []
    list(postgres_pages.inline_values(garbage))
    rows = [row for at in range(0, len(garbage) - 8191, 8192) for row in postgres_pages.rows(garbage[at : at + 8192])]
    list(postgres_pages.joined(filter(None, map(postgres_pages.chunk, rows))))
    for record in postgres_wal.records(garbage):
        list(postgres_wal.images(record))


def test_joins_what_the_pages_of_the_log_cut() -> None:
    """A record goes on behind the header of the next page."""
    record = (8200).to_bytes(4, "little") + b"-" * 8156 + CANARY.encode() + b"-" * (8200 - 8160 - len(CANARY))
    head = (0xD118).to_bytes(2, "little") + bytes(14)
    first, second = head + bytes(8) + record[:8168], head + (8200 - 8168).to_bytes(8, "little") + record[8168:]
    log = first + second + bytes(8192 - len(second))
    assert CANARY.encode() not in log
    assert [found for found in postgres_wal.records(log) if CANARY.encode() in found] == [record]
