"""What lies between this machine and the rest of the world: names, proxies, and who may be delivered to."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Final
from urllib.parse import urlsplit

from relay.delivery.addresses import is_public
from relay.delivery.resolver import Addresses, system_lookup
from relay.doctor.finding import Finding, fail, ok, warn
from relay.settings import Network, Settings, proxy_variables

_PRIVATE: Final = tuple(
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
# A resolver that takes longer makes most deliveries time out.
_LOOKUP_SECONDS: Final = 5.0


def examine(settings: Settings, *, lookup: Callable[[str], Addresses] = system_lookup) -> Iterator[Finding]:
    """Everything that needs neither Redis nor Postgres."""
    yield _names(urlsplit(settings.public_url).hostname or "", lookup)
    yield judged_proxies(proxy_variables())
    yield judged_http(allowed=settings.allow_http)
    yield judged_networks(settings.egress_allow, is_development=settings.allow_http)
    yield judged_token(is_set=bool(settings.metrics_token), is_development=settings.allow_http)


def _names(host: str, lookup: Callable[[str], Addresses]) -> Finding:
    check = "names"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return ok(check, "SWITCHHOOK_PUBLIC_URL has an address: no name to look up")
    addresses = _in_time(lambda: lookup(host))
    if addresses is None:
        return fail(check, f"no answer in {_LOOKUP_SECONDS:.0f} s", "mend the resolver: deliveries need it too")
    if not addresses:
        advice = "check SWITCHHOOK_PUBLIC_URL; if other names fail as well, mend the resolver: deliveries need it too"
        return fail(check, "the host of SWITCHHOOK_PUBLIC_URL is unknown", advice)
    return ok(check, "the host of SWITCHHOOK_PUBLIC_URL has an address")


def _in_time(ask: Callable[[], Addresses]) -> Addresses | None:
    # The system's resolver takes no limit of time: it is left behind in a thread that ends with this process.
    answers: SimpleQueue[Addresses] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), name="lookup", daemon=True).start()
    try:
        return answers.get(timeout=_LOOKUP_SECONDS)
    except Empty:
        return None


def judged_proxies(names: Sequence[str]) -> Finding:
    """Deliveries go straight to their endpoint, or the guard would judge the proxy's address."""
    if names:
        advice = "nothing to do if this host reaches the internet directly; through a proxy alone it cannot deliver"
        return warn("proxies", f"{', '.join(names)} set, and ignored", advice)
    return ok("proxies", "none set")


def judged_http(*, allowed: bool) -> Finding:
    """Deliveries are encrypted."""
    if allowed:
        return warn("http", "SWITCHHOOK_ALLOW_HTTP is 1", "unset it in production: deliveries can be read on the way")
    return ok("http", "endpoints are https only")


def judged_networks(networks: Sequence[Network], *, is_development: bool) -> Finding:
    """Who may be delivered to besides the public internet."""
    private = [str(network) for network in networks if _is_private(network)]
    if private and not is_development:
        advice = (
            "customers can make Switchhook call what is there: keep SWITCHHOOK_EGRESS_ALLOW to hosts that expect it"
        )
        return warn("allowed networks", f"private: {', '.join(private)}", advice)
    return ok("allowed networks", f"{len(networks)} besides the public internet")


def _is_private(network: Network) -> bool:
    """Whether some of it is not public: its first address, or a private network inside a large one (RFC 1918, 4193)."""
    return not is_public(str(network.network_address)) or any(
        network.version == private.version and private.overlaps(network) for private in _PRIVATE
    )


def judged_token(*, is_set: bool, is_development: bool) -> Finding:
    """Metrics are for those who may see them (relay.telemetry.access)."""
    if is_set:
        return ok("metrics", "METRICS_TOKEN is set")
    if is_development:
        found = "METRICS_TOKEN is not set: with SWITCHHOOK_ALLOW_HTTP=1 /metrics is open to everybody"
        return warn("metrics", found, "set it where others can reach web")
    return warn("metrics", "METRICS_TOKEN is not set: /metrics is closed", "set it, and give it to what scrapes")
