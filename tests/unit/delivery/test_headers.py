"""Customers' own delivery headers: what may be configured."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.headers import MAX_HEADERS, MAX_NAME_CHARS, MAX_VALUE_CHARS, checked_headers
from relay.errors import BadRequest
from relay.providers import PROVIDERS

TOKEN_CHARS = "!#$%&'*+.^_|~-" + string.digits + string.ascii_letters


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc.def"},
        {"X-Api-Key": "k", "x-tenant": "a b  c"},
        {TOKEN_CHARS: "".join(map(chr, range(0x21, 0x7F)))},
        {"X": "y" * MAX_VALUE_CHARS},
        {"x" * MAX_NAME_CHARS: "y"},
        {"X-Canonical-Api-Key": "ck_live_0123-4567"},
        {"User-Agent": "ours", "Accept": "*/*", "Tea": "1", "Hostess": "1", "Proxying": "1", "Webhook": "1"},
        {"X-Webhook-Secret-2": "1", "X-Webhook-Id": "1", "Cookies": "1"},
        {f"X-{number}": "v" for number in range(MAX_HEADERS)},
    ],
)
def test_takes_ordinary_headers_as_they_are(headers: dict[str, str]) -> None:
    """Permitted headers come out unchanged, in their order."""
    assert checked_headers(headers) == tuple(headers.items())


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-",
        "Expect",
        "Cookie",
        "webhook-id",
        "webhook-signature",
        "webhook-anything",
        "webhook-timestamp",
        "X-Webhook-Secret",
        *(header for provider in PROVIDERS.values() for header in provider.SIGNATURE_HEADERS),
        "Switchhook-Attempt",
        "Switchhook-",
    ],
)
@pytest.mark.parametrize("change", [str, str.lower, str.upper, str.swapcase])
def test_refuses_names_that_are_not_the_customers(name: str, change: Any) -> None:
    """Names that frame the message or are our own are refused in any case."""
    with pytest.raises(BadRequest, match=r"headers .*: this name is set by Switchhook") as caught:
        checked_headers({"X": "v", change(name): "v"})
    told = caught.value.detail.removeprefix("headers ").partition(":")[0]
    assert name.lower().startswith(told.removesuffix("..."))
    assert "number" not in told
    assert (caught.value.code, caught.value.field, caught.value.status) == ("header_refused", "headers", 400)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "X Y",
        " X",
        "X ",
        "X:",
        "X\n",  # what `$` would let through
        "X\r\nHost",
        "X\x00",
        "X\x7f",
        "X\t",
        "X(Y)",
        "X/Y",
        'X"',
        "X,Y",
        "X;Y",
        "X=Y",
        "X@Y",
        "[X]",
        "{X}",
        "X\\",
        "\u00dc",
        "\uff28ost",
        "\ud800",
        "x" * (MAX_NAME_CHARS + 1),
        None,
        5,
        b"X",
    ],
)
def test_refuses_names_that_are_no_tokens(name: Any) -> None:
    """A name holds token characters only, and not too many."""
    with pytest.raises(BadRequest, match="number 1: a name has") as caught:
        checked_headers({name: "v"})
    assert caught.value.code == "header_refused"


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        " v",
        "v ",
        "v\n",
        "v\r\nHost: x",
        "v\rw",
        "v\nw",
        "a\tb",
        "\x00",
        "a\x1fb",
        "a\x7fb",
        "\u00fc",
        "a\u00a0b",
        "\u560d\u560a",  # becomes CR LF where characters are cut to bytes
        "\ud800",
        "v" * (MAX_VALUE_CHARS + 1),
        None,
        5,
        b"v",
        ["v"],
    ],
)
def test_refuses_values_that_are_not_visible_ascii(value: Any) -> None:
    """A value holds visible ASCII with spaces inside, and not too much of it."""
    with pytest.raises(BadRequest, match="headers X: a value has") as caught:
        checked_headers({"X": value})
    assert caught.value.code == "header_refused"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0x100)])
def test_refuses_every_control_character_and_every_byte_above_ascii(code: int) -> None:
    """No such character passes in a name or inside a value."""
    with pytest.raises(BadRequest):
        checked_headers({"X": f"a{chr(code)}b"})
    with pytest.raises(BadRequest):
        checked_headers({f"X{chr(code)}": "v"})


def test_refuses_a_name_given_twice_in_different_case() -> None:
    """Names that differ in case only are one header."""
    with pytest.raises(BadRequest, match="number 3: this name is given twice"):
        checked_headers({"X-Key": "a", "Other": "b", "x-kEY": "c"})


def test_refuses_too_many_headers() -> None:
    """One more than the limit is refused."""
    with pytest.raises(BadRequest, match="at most 32"):
        checked_headers({f"X-{number}": "v" for number in range(MAX_HEADERS + 1)})


@pytest.mark.parametrize("headers", [None, [], "X: v", [("X", "v")]])
def test_refuses_what_is_no_object(headers: Any) -> None:
    """A list or a text is not a set of headers."""
    with pytest.raises(BadRequest, match="must be an object"):
        checked_headers(headers)


def test_quotes_neither_name_nor_value() -> None:
    """A refusal names the field and the place, not what stood there, unless it is ours: either may be a secret."""
    for headers in ({"hunter2 ": "v"}, {"X": "hunter2\n"}, {"Proxy-hunter2": "v"}, {"hunter2": "v", "HUNTER2": "v"}):
        with pytest.raises(BadRequest) as caught:
            checked_headers(headers, field="deliveryHeaders")
        assert "hunter2" not in str(caught.value).lower()
        assert caught.value.field == "deliveryHeaders"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_takes_or_refuses_any_text(headers: dict[str, str]) -> None:
    """Whatever passes can be written on one line of an HTTP/1.1 message."""
    try:
        checked = checked_headers(headers)
    except BadRequest:
        return
    for name, value in checked:
        line = f"{name}: {value}"
        assert line.isascii()
        assert line.isprintable()
        assert line == line.strip()
        assert ":" not in name
