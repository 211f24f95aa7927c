"""The guard between customers' URLs and this network: its public names, and the check that resolves.

A verdict counts only where a connection is made, on the socket's own address (`is_allowed`): a name may resolve to
something else by then. What is checked here when a destination is configured gives an early and clear error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.delivery.addresses import is_allowed, is_public
from relay.delivery.lookups import LOOKUPS
from relay.delivery.resolver import Lookup
from relay.delivery.url import checked_destination, checked_url
from relay.errors import TargetRefused, Unavailable
from relay.settings import Network

__all__ = ["checked_url", "is_allowed", "is_public", "resolve_checked"]

_LOOKUP: Final = LOOKUPS.of("")


def resolve_checked(
    url: str,
    *,
    allow: Iterable[Network | str] = (),
    https_only: bool = False,
    field: str = "url",
    lookup: Lookup = _LOOKUP,
) -> str:
    """Return the rebuilt URL of a destination whose name resolves to permitted addresses only.

    For use when a destination is configured. Raises TargetRefused naming `field`: `target_refused` if the URL or any
    one address is bad, `target_unresolvable` if the name has no address; and Unavailable as `lookup` does, which is
    one of `Lookups` unless a test gives another.
    """
    networks = tuple(allow)
    destination = checked_destination(url, allow=networks, https_only=https_only, field=field)
    if destination.is_address:
        return destination.url
    try:
        addresses = lookup(destination.host)
    except Unavailable as error:
        error.field = field
        raise
    if not addresses:
        raise TargetRefused(
            "the host name does not resolve; check its spelling", code="target_unresolvable", field=field
        )
    if not all(is_allowed(address, allow=networks) for address in addresses):
        raise TargetRefused("the host name resolves to an address that is not public", field=field)
    return destination.url
