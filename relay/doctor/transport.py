"""Whether what travels to a server can be read on the way. Pure."""

from __future__ import annotations

import ipaddress

from relay.doctor.finding import Finding, ok, warn


def judged(server: str, *, host: str, encrypted: bool, verified: bool) -> Finding:
    """TLS to a server. `host` is empty or a path for a Unix socket."""
    check = f"{server}: TLS"
    if not host or host.startswith("/"):
        return ok(check, "a Unix socket: nothing leaves this machine")
    if encrypted and verified:
        return ok(check, "in use, the server's certificate is verified")
    if _is_loopback(host):
        return ok(check, "a loopback address: nothing leaves this machine")
    if encrypted:
        return warn(check, "in use, but anybody could pretend to be the server", _VERIFY[server])
    return warn(check, "not in use on the way to another machine", _ENCRYPT[server])


_ENCRYPT = {
    "redis": "give REDIS_URL as rediss://, unless the network between is yours alone",
    "postgres": "add ?sslmode=verify-full to DATABASE_URL, unless the network between is yours alone",
}
_VERIFY = {
    "redis": "set REDIS_TLS_VERIFY=required, unless the provider's certificates are self-signed",
    "postgres": "add ?sslmode=verify-full to DATABASE_URL, with sslrootcert if the authority is your own",
}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
