"""Which IP addresses may be called: a verdict on the address itself, however it was found.

The list is our own, frozen and tested. `ipaddress.is_global` is no guard: it calls 224.0.0.1, 192.0.0.192,
64:ff9b::7f00:1 and all IPv6 multicast global, and its answers change between patch versions of Python.
Sources: the IANA special-purpose address registries (RFC 6890), RFC 4291, RFC 6052, and the clouds' own manuals.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from relay.settings import Network

Range = tuple[int, int]

# IPv4 is numbered from where IPv6 ends, so that one table of ranges serves both and neither can reach into the other.
_IPV4_BASE: Final = 1 << 128
_IPV4_MASK: Final = (1 << 32) - 1


def is_public(address: str) -> bool:
    """Whether an address in text form belongs to the public internet. Junk, zone ids included, is not public."""
    return is_allowed(address)


def is_allowed(address: str, *, allow: Iterable[Network | str] = ()) -> bool:
    """Whether a connection to this address may be made: it is public, or inside a network of the operator's.

    `allow` holds networks or CIDR texts; give the same tuple each time, for verdicts are cached by address and
    tuple. The clouds' metadata addresses are never allowed. An address behind NAT64's well-known prefix is allowed
    if the prefix and the IPv4 address that it carries both are. Raises ValueError for a CIDR that makes no sense.
    """
    return _verdict(str(address), tuple(allow))


@lru_cache(maxsize=8192)
def _verdict(address: str, allow: tuple[Network | str, ...]) -> bool:
    try:
        number = _number(ip_address(address))
    except ValueError:
        return False
    return "%" not in address and _passes(number, _ranges(allow))


def _passes(number: int, allowed: tuple[Range, ...]) -> bool:
    if _within(number, _PUBLIC) and not _within(number, _REFUSED):
        return True
    if not _within(number, allowed) or _reaches_metadata(number):
        return False
    return not _within(number, _NAT64) or _passes(_carried_ipv4(number), allowed)


def _reaches_metadata(number: int) -> bool:
    """Translators and tunnels carry an IPv4 address in the last 32 bits, so these count in every IPv6 address here."""
    return number in _METADATA or _carried_ipv4(number) in _METADATA


def _carried_ipv4(number: int) -> int:
    return _IPV4_BASE + (number & _IPV4_MASK)


def _within(number: int, ranges: tuple[Range, ...]) -> bool:
    return any(first <= number <= last for first, last in ranges)


def _number(address: IPv4Address | IPv6Address) -> int:
    """An IPv4-mapped address (::ffff:0:0/96, RFC 4291) is the IPv4 address: the kernel connects to that."""
    if isinstance(address, IPv4Address):
        return _IPV4_BASE + int(address)
    return int(address) if address.ipv4_mapped is None else _IPV4_BASE + int(address.ipv4_mapped)


@lru_cache(maxsize=64)
def _ranges(networks: tuple[Network | str, ...]) -> tuple[Range, ...]:
    parsed = tuple(ip_network(network) for network in networks)
    firsts = tuple(_number(network.network_address) for network in parsed)
    return tuple((first, first + net.num_addresses - 1) for first, net in zip(firsts, parsed, strict=True))


# Of IPv6 only global unicast is public: NAT64, SIIT, ULA, link- and site-local and multicast all lie outside it.
_PUBLIC: Final = _ranges(("0.0.0.0/0", "2000::/3"))

_REFUSED: Final = _ranges(
    (
        "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, in a public range
        "169.254.0.0/16",  # link-local, metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    )
)

_NAT64: Final = _ranges(("64:ff9b::/96",))

# AWS and most clouds, AWS over IPv6, Alibaba Cloud, Oracle Cloud.
_METADATA: Final = frozenset(
    _number(ip_address(address)) for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
