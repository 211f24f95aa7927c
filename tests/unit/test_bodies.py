"""Reading bodies: whole or refused, never cut, never more than the limit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relay.bodies import AUDIO_LIMIT_BYTES, closing, read_body
from relay.errors import BadRequest, BodyTooLarge, EncodingRefused

LIMIT = 1_000
AUDIO = b'{"type":"post_call_audio","data":{"full_audio":"'
MIB = 1024 * 1024


class Stream:
    """A body on its way in pieces; reading past its end is an error, for some servers would wait there for ever."""

    def __init__(self, body: bytes, *, piece: int = 10**9, has_end: bool = True) -> None:
        self._body = memoryview(body)
        self._piece = piece
        self._has_end = has_end
        self.taken = 0
        self.largest_read = 0

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0, "a read without limit"
        self.largest_read = max(self.largest_read, size)
        piece = self._body[self.taken : self.taken + min(size, self._piece)]
        assert piece or not size or self._has_end, "a read past the end"
        self.taken += len(piece)
        return bytes(piece)


def environ(stream: Stream, length: int | str | None = None, **headers: str) -> dict[str, Any]:
    given = {} if length is None else {"CONTENT_LENGTH": str(length)}
    return {"wsgi.input": stream, **given, **headers}


def sized(body: bytes, *, piece: int = 10**9) -> dict[str, Any]:
    """A request that tells its length truly."""
    return environ(Stream(body, piece=piece, has_end=False), len(body))


def chunked(body: bytes, *, piece: int = 10**9) -> dict[str, Any]:
    """A request that tells no length."""
    return environ(Stream(body, piece=piece), HTTP_TRANSFER_ENCODING="chunked")


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
@pytest.mark.parametrize("piece", [1, 7, 10**9])
@pytest.mark.parametrize("request_of", [sized, chunked])
def test_reads_up_to_the_limit(size: int, piece: int, request_of: Any) -> None:
    """Byte for byte, however the server hands it over."""
    body = bytes(n % 251 for n in range(size))
    assert read_body(request_of(body, piece=piece), limit_bytes=LIMIT) == body


@pytest.mark.parametrize("request_of", [sized, chunked])
def test_the_connection_ends_with_a_body_that_was_not_read(request_of: Any) -> None:
    """To its end: one that is over the limit was not either."""
    read, unread, over = (request_of(bytes(size)) for size in (LIMIT, LIMIT, LIMIT + 1))
    read_body(read, limit_bytes=LIMIT)
    with pytest.raises(BodyTooLarge):
        read_body(over, limit_bytes=LIMIT)
    assert [closing(request) for request in (read, unread, over)] == [{}, *[{"Connection": "close"}] * 2]


@pytest.mark.parametrize("length", [None, "", 0])
def test_a_request_without_a_body_ends_no_connection(length: Any) -> None:
    """There is nothing to read."""
    assert closing(environ(Stream(b""), length)) == {}


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 50])
@pytest.mark.parametrize("piece", [7, 10**9])
@pytest.mark.parametrize("request_of", [sized, chunked])
def test_refuses_one_byte_more(size: int, piece: int, request_of: Any) -> None:
    """With or without a length; nothing past the limit and one byte is taken in."""
    request = request_of(bytes(size), piece=piece)
    with pytest.raises(BodyTooLarge):
        read_body(request, limit_bytes=LIMIT)
    assert request["wsgi.input"].taken <= LIMIT + 1


def test_refuses_a_declared_length_without_reading() -> None:
    """It is known before the first byte."""
    stream = Stream(bytes(10))
    with pytest.raises(BodyTooLarge):
        read_body(environ(stream, LIMIT + 1), limit_bytes=LIMIT)
    assert stream.taken == 0


def test_takes_a_missing_length_for_what_comes() -> None:
    """Without both length and encoding the server ends the stream."""
    assert read_body(environ(Stream(b"abc")), limit_bytes=LIMIT) == b"abc"
    assert read_body(environ(Stream(b""), ""), limit_bytes=LIMIT) == b""


def test_a_length_that_is_too_long_is_a_cut_body() -> None:
    """The connection ended early: half a payload is never taken for a whole one."""
    with pytest.raises(BadRequest) as refused:
        read_body(environ(Stream(b"abc"), 4), limit_bytes=LIMIT)
    assert refused.value.code == "body_truncated"


def test_a_length_that_is_too_short_ends_the_body() -> None:
    """What follows belongs to no one, as HTTP has it; a signature over more will not fit."""
    stream = Stream(b"abcdef")
    assert read_body(environ(stream, 3), limit_bytes=LIMIT) == b"abc"
    assert stream.taken == 3


def test_transfer_encoding_overrules_a_length() -> None:
    """RFC 9112, 6.3: the server has decoded the chunks, so their end is the end."""
    request = environ(Stream(b"abcdef"), 3, HTTP_TRANSFER_ENCODING="chunked")
    assert read_body(request, limit_bytes=LIMIT) == b"abcdef"


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5.0", "0x5", "5,5", "five", "\u0665", "1_0", "9" * 19, "9" * 5_000, " 5"]
)
def test_refuses_a_length_that_is_no_number(length: str) -> None:
    """What int() would take is not what HTTP allows."""
    with pytest.raises(BadRequest) as refused:
        read_body(environ(Stream(b"hello"), length), limit_bytes=LIMIT)
    assert refused.value.code == "content_length_invalid"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "x"])
def test_refuses_a_compressed_body(encoding: str) -> None:
    """Signatures are over the plain bytes, and a bomb is never unpacked."""
    with pytest.raises(EncodingRefused):
        read_body(environ(Stream(b"abc"), 3, HTTP_CONTENT_ENCODING=encoding), limit_bytes=LIMIT)


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_takes_a_body_that_says_it_is_plain(encoding: str) -> None:
    """Some senders name the identity encoding."""
    assert read_body(environ(Stream(b"abc"), 3, HTTP_CONTENT_ENCODING=encoding), limit_bytes=LIMIT) == b"abc"


# -- recordings


def recording(size: int) -> bytes:
    return AUDIO + bytes(size - len(AUDIO))


@pytest.mark.parametrize("request_of", [sized, chunked])
@pytest.mark.parametrize("size", [LIMIT + 1, 3 * MIB])
def test_takes_a_recording_past_the_ordinary_limit(size: int, request_of: Any) -> None:
    """ElevenLabs' recordings are larger than any transcript."""
    body = recording(size)
    assert read_body(request_of(body, piece=64 * 1024), limit_bytes=LIMIT, audio=True) == body


@pytest.mark.parametrize("request_of", [sized, chunked])
def test_a_recording_has_a_limit_of_its_own(request_of: Any) -> None:
    """64 MiB to the byte."""
    body = recording(AUDIO_LIMIT_BYTES)
    assert len(read_body(request_of(body), limit_bytes=LIMIT, audio=True)) == AUDIO_LIMIT_BYTES
    request = request_of(body + b"x")
    with pytest.raises(BodyTooLarge):
        read_body(request, limit_bytes=LIMIT, audio=True)
    assert request["wsgi.input"].taken <= AUDIO_LIMIT_BYTES + 1


def _not_recordings() -> Iterator[bytes]:
    rest = bytes(LIMIT + 1)
    yield b'{"type":"post_call_transcription","data":"' + rest
    yield b'{"data":{"type":"post_call_audio"}}' + rest
    yield b'{"data":"' + rest + b'","type":"post_call_audio"}'  # it hides its type past what is looked at
    yield b'["type":"post_call_audio"' + rest
    yield rest


@pytest.mark.parametrize("body", list(_not_recordings()))
@pytest.mark.parametrize("request_of", [sized, chunked])
def test_only_a_recording_may_be_that_large(body: bytes, request_of: Any) -> None:
    """Everything else is held to the ordinary limit, and read no further."""
    request = request_of(body)
    with pytest.raises(BodyTooLarge):
        read_body(request, limit_bytes=LIMIT, audio=True)
    assert request["wsgi.input"].taken <= LIMIT + 1


def test_a_recording_is_refused_where_none_is_expected() -> None:
    """At another provider's route it is just a large body."""
    with pytest.raises(BodyTooLarge):
        read_body(sized(recording(LIMIT + 1)), limit_bytes=LIMIT)


def test_a_recording_that_was_cut_is_refused() -> None:
    """As any body is."""
    body = recording(LIMIT + 500)
    with pytest.raises(BadRequest) as refused:
        read_body(environ(Stream(body), len(body) + 1), limit_bytes=LIMIT, audio=True)
    assert refused.value.code == "body_truncated"


def test_a_limit_above_that_of_recordings_holds_for_them_too() -> None:
    """An operator who raised it meant every body."""
    limit = AUDIO_LIMIT_BYTES + 10
    body = recording(limit)
    assert len(read_body(sized(body), limit_bytes=limit, audio=True)) == limit


def test_asks_the_server_for_a_megabyte_at_a_time() -> None:
    """A declared length is a claim: memory follows what has come."""
    body = recording(3 * MIB)
    request = sized(body)
    read_body(request, limit_bytes=10 * MIB)
    assert request["wsgi.input"].largest_read <= MIB
