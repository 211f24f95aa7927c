"""The guard: which addresses and which URLs may be called."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from relay.delivery.guard import checked_url, is_allowed, is_public, resolve_checked
from relay.delivery.resolver import Lookup
from relay.delivery.url import MAX_URL_CHARS, checked_destination
from relay.errors import TargetRefused

# First and last address of every refused IPv4 range, then its public neighbours below and above.
REFUSED_IPV4 = [
    ("0.0.0.0", "0.255.255.255", None, "1.0.0.0"),
    ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
    ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
    ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
    ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
    ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0", "255.255.255.255", "223.255.255.255", None),
]

# The same for IPv6.
REFUSED_IPV6 = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, "2000::"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff::", "2003::"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff::", "3fff:1000::"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
]

SPECIAL = [
    "127.0.0.1",
    "169.254.169.254",  # metadata, most clouds
    "100.100.100.200",  # metadata, Alibaba Cloud
    "192.0.0.192",  # metadata, Oracle Cloud; is_global in Python
    "168.63.129.16",  # Azure's host
    "224.0.0.1",  # multicast; is_global in Python
    "192.88.99.1",  # 6to4 relay; is_global in Python
    "255.255.255.255",  # broadcast
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible loopback; is_global in Python
    "::127.0.0.1",
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:7f00:1",
    "::FFFF:A9FE:A9FE",
    "::ffff:10.0.0.1",
    "::ffff:0:7f00:1",  # SIIT
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::8.8.8.8",  # NAT64 of a public address: only by an operator's setting
    "64:ff9b:1::a00:1",  # local NAT64
    "2002:7f00:1::1",  # 6to4
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:db8::1",
    "3fff::1",
    "fe80::1",
    "fe80::5efe:7f00:1",  # ISATAP
    "fec0::1",  # site-local
    "fc00::1",
    "fd00:ec2::254",  # metadata, AWS over IPv6
    "ff02::1",
    "ff0e::1",  # global multicast
    "100::1",  # discard
    "5f00::1",  # SRv6 SIDs
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "100.0.0.1",
    "172.67.1.1",
    "192.30.255.112",
    "198.41.0.4",
    "203.0.112.1",
    "::ffff:8.8.8.8",  # judged as IPv4
    "2001:4860:4860::8888",
    "2001:200:dff:fff1::1",
    "2606:4700:4700::1111",
    "2A00:1450:4001:81b::200e",
    "2400:cb00:2048:1::c629:d7a2",
    "2600::a9fe:a9fe",  # ends like a metadata address by chance
]

JUNK = [
    "",
    " ",
    "localhost",
    "example.com",
    "1.1.1",
    "1.1.1.1.1",
    "1.1.1.1 ",
    " 1.1.1.1",
    "1.1.1.1\n",
    "1.1.1.1/32",
    "1.1.1.1:80",
    "01.1.1.1",
    "0x01.1.1.1",
    "16843009",
    "256.1.1.1",
    "-1.1.1.1",
    "\uff11.1.1.1",  # a full-width digit
    "[2606:4700:4700::1111]",
    "2606:4700:4700::1111%eth0",
    "2606:4700:4700::1111%",
    "2606:4700:4700:::1111",
    "1.1.1.1\x00",
    "9" * 10_000,
]


@pytest.mark.parametrize(("first", "last", "below", "above"), [*REFUSED_IPV4, *REFUSED_IPV6])
def test_refuses_each_range_up_to_its_edges(first: str, last: str, below: str | None, above: str | None) -> None:
    """First and last address of a range are refused, its neighbours are not."""
    verdicts = [is_public(address) for address in (first, last)]
    neighbours = [is_public(address) for address in (below, above) if address is not None]
    assert not any(verdicts)
    assert neighbours
    assert all(neighbours)


@pytest.mark.parametrize("address", SPECIAL)
def test_refuses_special_addresses_in_every_form(address: str) -> None:
    """Special, embedded, translated and tunnelled addresses are not public."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_refuses_nothing_public(address: str) -> None:
    """Ordinary public addresses are public."""
    assert is_public(address)


@pytest.mark.parametrize("address", JUNK)
def test_calls_junk_not_public(address: str) -> None:
    """What is no address is not public, even if everything is allowed."""
    assert not is_public(address)
    assert not is_allowed(address, allow=("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize("address", [None, 134744072, b"\x08\x08\x08\x08", b"8.8.8.8", [], ("8.8.8.8",)])
def test_calls_what_is_no_text_not_public(address: Any) -> None:
    """Numbers and bytes, which ipaddress would read as addresses, are junk."""
    assert not is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_judges_every_ipv4_address_by_the_list_alone(number: int) -> None:
    """An IPv4 address is public exactly if no refused range holds it, and its mapped form is judged alike."""
    refused = any(int(IPv4Address(first)) <= number <= int(IPv4Address(last)) for first, last, *_ in REFUSED_IPV4)
    address = IPv4Address(number)
    assert is_public(str(address)) is not refused
    assert is_public(f"::ffff:{address}") is not refused


@given(st.integers(0, 2**128 - 1) | st.integers(2**125, 2**126 - 1))
@example(int(IPv6Address("2001:1ff:ffff::")))
def test_judges_every_ipv6_address_by_the_list_alone(number: int) -> None:
    """An IPv6 address that maps no IPv4 address is public exactly if no refused range holds it."""
    assume(IPv6Address(number).ipv4_mapped is None)
    refused = any(int(IPv6Address(first)) <= number <= int(IPv6Address(last)) for first, last, *_ in REFUSED_IPV6)
    assert is_public(str(IPv6Address(number))) is not refused


@given(st.sampled_from(REFUSED_IPV4), st.data())
def test_refuses_every_address_inside_a_refused_range(row: tuple[str, str, str | None, str | None], data: Any) -> None:
    """No address inside a refused range is public."""
    number = data.draw(st.integers(int(IPv4Address(row[0])), int(IPv4Address(row[1]))))
    assert not is_public(str(IPv4Address(number)))


@given(st.text(max_size=60))
def test_answers_any_text(text: str) -> None:
    """No text makes the verdict fail."""
    assert is_public(text) in {True, False}


@pytest.mark.parametrize(
    ("address", "allow", "verdict"),
    [
        ("127.0.0.1", ("127.0.0.0/8",), True),
        ("127.0.0.1", (ip_network("127.0.0.1/32"),), True),
        ("::ffff:127.0.0.1", ("127.0.0.0/8",), True),  # the same address to the kernel
        ("127.0.0.1", ("::ffff:127.0.0.0/104",), True),
        ("::1", ("127.0.0.0/8",), False),
        ("::1", ("::1/128",), True),
        ("10.0.0.1", ("127.0.0.0/8", "10.0.0.0/31"), True),
        ("10.0.0.2", ("127.0.0.0/8", "10.0.0.0/31"), False),
        ("8.8.8.8", ("127.0.0.0/8",), True),  # the list only adds
        ("127.0.0.1", ("::/0",), False),  # IPv6 networks say nothing about IPv4
        ("127.0.0.1", ("::fffe:0:0/95",), False),  # not even those around the mapped addresses
        ("fd00::1", ("::fffe:0:0/95",), False),
        ("::1", ("0.0.0.0/0",), False),
        ("168.63.129.16", ("168.63.129.16/32",), True),
    ],
)
def test_allows_what_the_operator_allows(address: str, allow: tuple[Any, ...], verdict: bool) -> None:
    """Addresses inside the operator's networks pass, others are judged as before."""
    assert is_allowed(address, allow=allow) is verdict
    assert is_allowed(address, allow=list(allow)) is verdict


@pytest.mark.parametrize("metadata", ["169.254.169.254", "100.100.100.200", "192.0.0.192"])
@pytest.mark.parametrize("form", ["{}", "::ffff:{}", "::{}", "64:ff9b::{}", "::ffff:0:{}", "fe80::5efe:{}"])
def test_never_allows_metadata_addresses(metadata: str, form: str) -> None:
    """No allow-list opens a metadata address, in whatever form it comes."""
    assert not is_allowed(form.format(metadata), allow=("0.0.0.0/0", "::/0", f"{metadata}/32"))


def test_never_allows_the_metadata_address_of_ipv6() -> None:
    """No allow-list opens AWS's IPv6 metadata address; its neighbours can be opened."""
    assert not is_allowed("fd00:ec2::254", allow=("fd00:ec2::254/128", "::/0"))
    assert not is_allowed("fd00:0ec2:0::0254", allow=("fd00::/8",))
    assert is_allowed("fd00:ec2::253", allow=("fd00::/8",))


@pytest.mark.parametrize(
    ("address", "allow", "verdict"),
    [
        ("64:ff9b::808:808", ("64:ff9b::/96",), True),
        ("64:ff9b::a00:1", ("64:ff9b::/96",), False),  # a translator would reach 10.0.0.1
        ("64:ff9b::a00:1", ("64:ff9b::/96", "10.0.0.0/8"), True),
        ("64:ff9b::808:808", ("10.0.0.0/8",), False),
    ],
)
def test_judges_the_address_behind_nat64(address: str, allow: tuple[str, ...], verdict: bool) -> None:
    """Allowing NAT64 opens the public addresses behind it, not the private ones."""
    assert is_allowed(address, allow=allow) is verdict


@pytest.mark.parametrize("allow", ["10.0.0.0/8", ("10.0.0.1/8",), ("nonsense",)])
def test_fails_loudly_for_an_allow_list_that_makes_no_sense(allow: Any) -> None:
    """A mistaken allow-list is an error, not an empty list."""
    with pytest.raises(ValueError, match=r"network|host bits"):
        is_allowed("10.0.0.1", allow=allow)


# What comes in, what comes out.
REBUILT = [
    ("https://example.com/hook", "https://example.com/hook"),
    ("http://example.com/hook", "http://example.com/hook"),
    ("https://example.com", "https://example.com/"),
    ("HTTPS://EXAMPLE.Com/Hook", "https://example.com/Hook"),
    ("https://example.com?a=1", "https://example.com/?a=1"),
    ("https://example.com/?", "https://example.com/?"),
    ("https://example.com:443/", "https://example.com:443/"),
    ("https://example.com:8443/", "https://example.com:8443/"),
    ("https://example.com:1/", "https://example.com:1/"),
    ("https://example.com:65535/", "https://example.com:65535/"),
    ("https://example.com/#secret", "https://example.com/"),
    ("https://example.com#@127.0.0.1/", "https://example.com/"),
    ("https://example.com/a?b#c?d", "https://example.com/a?b"),
    ("https://example.com./", "https://example.com/"),
    ("https://example.com.:8443/", "https://example.com:8443/"),
    ("https://a_b.example.com/", "https://a_b.example.com/"),
    ("https://r3---sn-4g5e.example.com/", "https://r3---sn-4g5e.example.com/"),
    ("https://123.example.com/", "https://123.example.com/"),
    ("https://1.1.1.1.example.com/", "https://1.1.1.1.example.com/"),
    ("https://1.1.1.1/", "https://1.1.1.1/"),
    ("https://1.1.1.1./", "https://1.1.1.1/"),
    ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
    ("https://[2606:4700:4700:0:0:0:0:1111]:8443/x", "https://[2606:4700:4700::1111]:8443/x"),
    ("https://[2A00:1450::200E]/", "https://[2a00:1450::200e]/"),
    ("https://[::ffff:8.8.8.8]/", "https://8.8.8.8/"),
    ("https://b\u00fccher.example/", "https://xn--bcher-kva.example/"),
    ("https://B\u00fccher.EXAMPLE/", "https://xn--bcher-kva.example/"),
    ("https://fa\u00df.example/", "https://xn--fa-hia.example/"),
    ("https://\u4f8b\u3048.\u30c6\u30b9\u30c8/", "https://xn--r8jz45g.xn--zckzah/"),
    ("https://XN--BCHER-KVA.example/", "https://xn--bcher-kva.example/"),
    ("https://xn--i-7iq.ws/", "https://xn--i-7iq.ws/"),  # i and a heart, a name of the IDNA 2003 era
    ("https://example.com/%7euser/%2e%2E/a%20b", "https://example.com/%7euser/%2e%2E/a%20b"),
    ("https://example.com/a/../b/./c//d", "https://example.com/a/../b/./c//d"),
    ("https://example.com/\u00fc?q=\u00fc", "https://example.com/%C3%BC?q=%C3%BC"),
    ('https://example.com/<a>"{b}|^`?c[]=[1]', "https://example.com/%3Ca%3E%22%7Bb%7D%7C%5E%60?c%5B%5D=%5B1%5D"),
    ("https://example.com/@user:pass@x", "https://example.com/@user:pass@x"),
    ("https://example.com/a;b=c,d!$&'()*+=:@~-._?/?a=b", "https://example.com/a;b=c,d!$&'()*+=:@~-._?/?a=b"),
    ("https://example.com/?u=http://127.0.0.1/", "https://example.com/?u=http://127.0.0.1/"),
]

REFUSED_URLS = [
    # not a URL of ours
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "http:example.com",
    "http:/example.com/",
    "httpx://example.com/",
    "http\u017f://example.com/",  # a long s, which case folding takes for an s
    "http://",
    "http:///path",
    "https://?a",
    "https://#a",
    "https://:80/",
    "https://./",
    "https://../",
    # parsers differ
    "http://127.1.1.1:80\\@127.2.2.2/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com/\\",
    "http:\\\\example.com/",
    "http://%31%32%37.0.0.1/",
    "http://loc%61lhost/",
    "http://example.com%2f@127.0.0.1/",
    "http://exa%6dple.com/",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://@example.com/",
    "http://1.1.1.1 &@127.0.0.1/",
    "http://1.1.1.1#@127.0.0.1@/ ",
    "http://exa\tmple.com/",
    "http://exa\nmple.com/",
    "http://example.com/\r\nHost: x",
    "http://example.com/\x00",
    "http://example.com/\x7f",
    "http://example.com/\x85",
    "http://example.com/a b",
    "http://example.com/\u00a0",
    "http://example.com/\u2028",
    "http://example.com/\ud800",
    " http://example.com/",
    "http://example.com/\n",
    "http://exam ple.com/",
    # ports
    "http://example.com:/",
    "http://example.com:0/",
    "http://example.com:00/",
    "http://example.com:080/",
    "http://example.com:65536/",
    "http://example.com:+80/",
    "http://example.com:-1/",
    "http://example.com:8a/",
    "http://example.com:80:80/",
    "http://example.com:\uff18\uff10/",
    "http://example.com:\u0668\u0660/",  # Arabic-Indic digits
    "http://example.com:99999999999999999999/",
    # names
    "http://example..com/",
    "http://.example.com/",
    "http://example.com../",
    "http://-example.com/",
    "http://example-.com/",
    "http://exa$mple.com/",
    "http://example.com,127.0.0.1/",
    "http://example.com;127.0.0.1/",
    "http://*.example.com/",
    f"http://{'a' * 64}.example.com/",
    f"http://{'a.' * 126}aa/",  # 254 bytes
    "http://" + "b\u00fc" * 40 + ".example/",
    "http://\u2460.example/",  # a circled digit
    "http://\uff45xample.com/",  # a full-width letter
    "http://example\u3002com/",  # an ideographic full stop
    "http://example\uff0ecom/",
    "http://exam\u00adple.com/",  # a soft hyphen, which UTS 46 drops
    "http://exam\u200bple.com/",
    "http://bu\u0308cher.example/",  # not in normal form
    "http://B\u00dcCHER.example/",
    "http://\u2764.example/",
    # addresses in disguise
    "http://0/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0x7f.1/",
    "http://0x7f.0.0.1/",
    "http://0x/",
    "http://0X7F000001/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://2130706433/",
    "http://017700000001/",
    "http://127.0.0.1.0/",
    "http://256.256.256.256/",
    "http://8.8.8/",
    "http://example.123/",
    "http://example.0x1f/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://127\u30020.0.1/",
    # addresses
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/",
    "http://127.0.0.1./",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[2606:4700:4700::1111%25eth0]/",
    "http://[2606:4700:4700::1111/",
    "http://2606:4700:4700::1111/",
    "http://[2606:4700:4700:::1111]/",
    "http://[1.1.1.1]/",
    "http://[example.com]/",
    "http://[v1.a]/",
    "http://[]/",
    "http://[::1]x/",
    "http://x[::1]/",
    "http://localhost/",
    "http://LOCALHOST:8000/",
    "http://localhost./",
    "http://app.localhost/",
    # escapes
    "http://example.com/%",
    "http://example.com/%zz",
    "http://example.com/100%25%2",
    "http://example.com/?q=%u0041",
    "http://example.com/%\u0661\u0661",
    # size
    f"http://example.com/{'a' * MAX_URL_CHARS}",
    "http://example.com/" + "\u00fc" * 400,
]


@pytest.mark.parametrize(("url", "rebuilt"), REBUILT)
def test_rebuilds_a_permitted_url(url: str, rebuilt: str) -> None:
    """A permitted URL comes out plain, and stays the same when it is checked again."""
    assert checked_url(url) == rebuilt
    assert checked_url(rebuilt) == rebuilt
    assert rebuilt.isascii()


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_refuses_a_url_that_is_not_plain(url: str) -> None:
    """A URL that parsers could read differently, or whose host is not public, is refused."""
    with pytest.raises(TargetRefused) as caught:
        checked_url(url)
    assert caught.value.code == "target_refused"
    assert caught.value.field == "url"


@pytest.mark.parametrize("url", [None, 5, b"https://example.com/", ["https://example.com/"]])
def test_refuses_what_is_no_text(url: Any) -> None:
    """Values of other types are refused like bad URLs."""
    with pytest.raises(TargetRefused):
        checked_url(url)


def test_takes_the_longest_host_that_dns_can_carry() -> None:
    """A host of 253 bytes passes; the dot at its end does not count."""
    host = "a." * 126 + "a"
    assert len(host) == 253
    assert checked_url(f"https://{host}./") == f"https://{host}/"
    with pytest.raises(TargetRefused):
        checked_url(f"https://a{host}/")


def test_limits_the_rebuilt_url() -> None:
    """The limit counts the characters that are stored and sent."""
    longest = "https://example.com/" + "a" * (MAX_URL_CHARS - 20)
    assert checked_url(longest + "#" + "b" * 100) == longest
    with pytest.raises(TargetRefused):
        checked_url(longest + "a")


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://127.0.0.1:8000/hook", ("127.0.0.0/8",)),
        ("http://127.0.0.1:8000/hook", [ip_network("127.0.0.0/8")]),
        ("http://[::1]:8000/hook", ("::1/128",)),
        ("http://localhost:8000/hook", ("127.0.0.0/8",)),
        ("http://localhost:8000/hook", ("::1/128",)),
        ("http://10.1.2.3/hook", iter(("10.0.0.0/8",))),
    ],
)
def test_lets_the_operator_allow_addresses_in_urls(url: str, allow: Any) -> None:
    """Addresses inside the operator's networks may be written in URLs."""
    assert checked_url(url, allow=allow) == url


@pytest.mark.parametrize("url", ["http://127.1/", "http://2130706433/", "http://169.254.169.254/", "http://10.0.0.1/"])
def test_allows_neither_disguises_nor_metadata(url: str) -> None:
    """Allowing loopback and link-local opens no odd spelling, no metadata and nothing else."""
    with pytest.raises(TargetRefused):
        checked_url(url, allow=("127.0.0.0/8", "169.254.0.0/16"))


def test_can_insist_on_https() -> None:
    """With https_only, http is refused and https is not."""
    assert checked_url("https://example.com/", https_only=True) == "https://example.com/"
    with pytest.raises(TargetRefused, match=r"must begin with https://$"):
        checked_url("http://example.com/", https_only=True)


def test_names_the_field_but_never_the_url() -> None:
    """A refusal names the caller's field and quotes no part of the URL."""
    with pytest.raises(TargetRefused) as caught:
        checked_url("https://user:hunter2@example.com/", field="clientWebhookUrl")
    assert caught.value.field == "clientWebhookUrl"
    assert isinstance(caught.value, ValueError)
    assert not any(word in str(caught.value) for word in ("user:", "hunter2", "example"))


@pytest.mark.parametrize(
    "url", ["https://hunter2.\u2764/", "https://[hunter2::1]/", "https://[::1::2]/", "https://1.2.3/"]
)
def test_carries_no_library_error_that_quotes_the_host(url: str) -> None:
    """The refusal stands alone: errors of parsers, which quote what they read, are not chained to it."""
    with pytest.raises(TargetRefused) as caught:
        checked_url(url)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_shows_no_url_in_a_destinations_repr() -> None:
    """A destination's repr holds nothing of its URL."""
    destination = checked_destination("https://example.com/hunter2")
    assert destination.url == "https://example.com/hunter2"
    assert "hunter2" not in repr(destination)
    assert "example" not in repr(destination)


@given(st.text(max_size=40), st.text(max_size=40))
def test_rebuilds_or_refuses_any_text(host: str, path: str) -> None:
    """Any text is either refused or rebuilt as a stable ASCII URL."""
    try:
        rebuilt = checked_url(f"https://{host}/{path}")
    except TargetRefused:
        return
    assert rebuilt.isascii()
    assert rebuilt.isprintable()
    assert checked_url(rebuilt) == rebuilt


def _lookup(*addresses: str) -> Lookup:
    def look_up(host: str) -> tuple[str, ...]:
        assert host == "xn--bcher-kva.example"
        return addresses

    return look_up


_NAMED = "https://b\u00fccher.example:8443/"
_NAMED_REBUILT = "https://xn--bcher-kva.example:8443/"


@pytest.mark.parametrize(
    ("addresses", "allow"),
    [
        (("8.8.8.8",), ()),
        (("8.8.8.8", "2606:4700:4700::1111"), ()),
        (("8.8.8.8", "10.0.0.1"), ("10.0.0.0/8",)),
    ],
)
def test_takes_a_name_whose_addresses_are_all_permitted(addresses: tuple[str, ...], allow: tuple[str, ...]) -> None:
    """A name passes if every address of it is public or allowed; the resolver is asked in ASCII."""
    assert resolve_checked(_NAMED, allow=allow, lookup=_lookup(*addresses)) == _NAMED_REBUILT


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("8.8.8.8", "10.0.0.1"),
        ("10.0.0.1", "8.8.8.8"),
        ("8.8.8.8", "::1"),
        ("8.8.8.8", "fe80::1%2"),
        ("8.8.8.8", "::ffff:169.254.169.254"),
    ],
)
def test_refuses_a_name_with_any_bad_address(addresses: tuple[str, ...]) -> None:
    """One bad address among good ones refuses the name."""
    with pytest.raises(TargetRefused) as caught:
        resolve_checked(_NAMED, lookup=_lookup(*addresses), field="clientWebhookUrl")
    assert (caught.value.code, caught.value.field) == ("target_refused", "clientWebhookUrl")
    assert "10.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), TimeoutError(), UnicodeError("label too long")])
def test_says_when_a_name_does_not_resolve(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver's failure is a refusal with a code of its own."""

    def fail(*_: object, **__: object) -> list[tuple[Any, ...]]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TargetRefused) as caught:
        resolve_checked(_NAMED)
    assert (caught.value.code, caught.value.field) == ("target_unresolvable", "url")
    assert caught.value.__context__ is None


def test_says_when_a_name_has_no_address() -> None:
    """An empty answer counts as unresolvable, not as nothing bad found."""
    with pytest.raises(TargetRefused) as caught:
        resolve_checked(_NAMED, lookup=_lookup())
    assert caught.value.code == "target_unresolvable"


def test_asks_no_resolver_about_addresses() -> None:
    """An address in the URL is judged as it stands."""

    def never(host: str) -> tuple[str, ...]:
        raise AssertionError("an address was resolved")

    assert resolve_checked("https://[2606:4700::1]/", lookup=never) == "https://[2606:4700::1]/"
    with pytest.raises(TargetRefused):
        resolve_checked("https://10.0.0.1/", lookup=never)
    with pytest.raises(TargetRefused):
        resolve_checked("http://1.1.1.1/", https_only=True, lookup=never)


def test_resolves_with_the_systems_resolver() -> None:
    """Unless told otherwise the system is asked: localhost is loopback."""
    allow = ("127.0.0.0/8", "::1/128")
    assert resolve_checked("http://localhost:8000/", allow=allow) == "http://localhost:8000/"
