"""Which URLs may be destinations: strict validation, then a URL rebuilt from its parts, and only that one is used.

URL parsers differ over backslashes, user names, percent signs, tabs and exotic digits, and every difference is a way
past a guard. So what is not plain is refused, never repaired; RFC 3986 is the grammar, RFC 5891 that of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from string import ascii_lowercase, ascii_uppercase
from typing import Final
from urllib.parse import quote

import idna

from relay.delivery.addresses import is_allowed
from relay.errors import TargetRefused
from relay.settings import Network

MAX_URL_CHARS: Final = 2048
MAX_HOST_CHARS: Final = 253  # what DNS can carry, RFC 1035

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::([1-9][0-9]{0,4}))?", re.ASCII | re.IGNORECASE)
_NEVER = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Underscores are no host names by RFC 952 and yet in public use; hyphens may stand anywhere but at the ends.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# The WHATWG URL standard's "ends in a number": resolvers read such a host as an IPv4 address, in octal, hex or whole.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_PATH_SAFE: Final = "/:@!$&'()*+,;=-._~%"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Destination:
    """A destination taken apart and judged. It has no repr: URLs hold customers' secrets.

    scheme      `http` or `https`
    host        an ASCII name in lower case without a trailing dot, or an address without brackets
    port        as written, 1 to 65535, or None
    target      path and query, percent-encoded, beginning with a slash
    is_address  the host is an address, so there is nothing to resolve
    """

    scheme: str
    host: str
    port: int | None
    target: str
    is_address: bool

    @property
    def url(self) -> str:
        """The one URL to store and to call: ASCII, and unchanged if it is checked again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def checked_url(url: str, *, allow: Iterable[Network | str] = (), https_only: bool = False, field: str = "url") -> str:
    """Return the rebuilt URL of a permitted destination, without resolving its name.

    Raises TargetRefused naming `field` and saying what to change, but never quoting the URL.
    """
    return checked_destination(url, allow=allow, https_only=https_only, field=field).url


def written_url(url: str, *, https_only: bool = False, field: str = "url") -> str:
    """Return a URL rebuilt from its parts; only how it is written is judged, not where it leads.

    For what is judged where it is connected to. Raises TargetRefused naming `field`.
    """
    try:
        return _destination(url, allow=None, schemes=_schemes(https_only)).url
    except TargetRefused as refusal:
        refusal.field = field
        raise


def checked_destination(
    url: str, *, allow: Iterable[Network | str] = (), https_only: bool = False, field: str = "url"
) -> Destination:
    """Take a URL apart and judge it: as `checked_url`, for callers that need the parts."""
    try:
        return _destination(url, allow=tuple(allow), schemes=_schemes(https_only))
    except TargetRefused as refusal:
        refusal.field = field
        raise


def _schemes(https_only: bool) -> tuple[str, ...]:
    return ("https",) if https_only else ("http", "https")


def _destination(url: str, *, allow: tuple[Network | str, ...] | None, schemes: tuple[str, ...]) -> Destination:
    if not isinstance(url, str) or _NEVER.search(url):
        raise TargetRefused("the URL must not hold spaces, control characters or backslashes")
    parts = _URL.fullmatch(url)
    if parts is None or parts[1].lower() not in schemes:
        raise TargetRefused(f"the URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    scheme, authority, path, query = parts.groups()
    host, port, is_address = _authority(authority)
    if allow is not None and not _may_be_called(host, is_address=is_address, allow=allow):
        raise TargetRefused("the host is not a public address")
    destination = Destination(
        scheme=scheme.lower(),
        host=host,
        port=port,
        target=_encoded(path or "/") + ("" if query is None else "?" + _encoded(query, also="?")),
        is_address=is_address,
    )
    if len(destination.url) > MAX_URL_CHARS:
        raise TargetRefused(f"the URL must have at most {MAX_URL_CHARS} characters, percent-encoding included")
    return destination


def _authority(text: str) -> tuple[str, int | None, bool]:
    """Host, port, and whether the host is an address."""
    if "@" in text:
        raise TargetRefused("the URL must not hold a user name or password")
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or int(parts[3] or 1) > 65535:
        raise TargetRefused("the URL must name a host, and if a port then one from 1 to 65535")
    ipv6, name, port = parts.groups()
    host, is_address = (_ipv6(ipv6), True) if ipv6 else _name_or_ipv4(name)
    return host, None if port is None else int(port), is_address


def _may_be_called(host: str, *, is_address: bool, allow: tuple[Network | str, ...]) -> bool:
    if is_address:
        return is_allowed(host, allow=allow)
    if host == "localhost" or host.endswith(".localhost"):  # loopback by definition, RFC 6761
        return is_allowed("127.0.0.1", allow=allow) or is_allowed("::1", allow=allow)
    return True


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None:
        raise TargetRefused("the brackets must hold an IPv6 address, without a zone")
    # As IPv4, because Python versions print mapped addresses differently and the URL must stay the same.
    return str(address.ipv4_mapped or address)


def _name_or_ipv4(text: str) -> tuple[str, bool]:
    """The host in ASCII, and whether it is an IPv4 address."""
    name = _ascii(text.translate(_LOWER).removesuffix("."))
    if name is None or len(name) > MAX_HOST_CHARS or not _NAME.fullmatch(name):
        raise TargetRefused("the host is not a valid name; write it in lower case or in its xn-- form")
    if not _ENDS_IN_NUMBER.fullmatch(name):
        return name, False
    if not _is_ipv4(name):
        raise TargetRefused("write an IPv4 address as four plain decimal numbers")
    return name, True


def _ascii(name: str) -> str | None:
    """A name in ASCII, or None if it is not an IDNA 2008 name.

    No UTS 46 mapping: it is what turns full-width digits and ideographic full stops into 127.0.0.1, and whether it
    is applied differs between clients. ASCII names pass as they are, so names of the IDNA 2003 era stay reachable.
    """
    if name.isascii():
        return name
    try:
        return idna.encode(name, strict=True).decode("ascii")
    except idna.IDNAError:
        return None


def _is_ipv4(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True


def _encoded(text: str, *, also: str = "") -> str:
    """Percent-encode what RFC 3986 does not allow; escapes that are there already stay byte for byte."""
    if _BAD_PERCENT.search(text):
        raise TargetRefused("a percent sign must begin an escape of two hex digits; write %25 for the sign itself")
    return quote(text, safe=_PATH_SAFE + also)
