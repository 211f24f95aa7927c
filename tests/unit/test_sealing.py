"""Sealing: what is sealed opens with its key, its purpose and its owner, and in no other way."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import SettingsError
from relay.sealing import KeyRing, UnsealError, open_event, seal_event

OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()
PASSPHRASE = "a passphrase for tests only, long enough to be taken"
RING = KeyRing(OLD)
PLAIN = b"words-of-a-caller"
PURPOSE, AAD = b"purpose", b"owner"


def seal(ring: KeyRing = RING) -> bytes:
    return ring.seal(PLAIN, purpose=PURPOSE, aad=AAD)


@given(st.binary(max_size=2_000), st.binary(max_size=50), st.binary(max_size=50))
def test_what_is_sealed_opens_again(plain: bytes, purpose: bytes, aad: bytes) -> None:
    """Of any length, also none."""
    sealed = RING.seal(plain, purpose=purpose, aad=aad)
    assert RING.open(sealed, purpose=purpose, aad=aad) == plain
    assert len(plain) < 8 or plain not in sealed


def test_the_same_content_is_never_sealed_alike() -> None:
    """Who sees sealed bytes does not even learn that two are equal."""
    assert len({seal() for _ in range(100)}) == 100


def test_has_the_documented_form() -> None:
    """Version, the key's id, nonce, ciphertext and tag: other code may have to open it one day."""
    sealed = seal()
    assert sealed[:5] == b"\x01\x03old"
    assert len(sealed) == 5 + 12 + len(PLAIN) + 16


# -- rotation


def test_the_first_key_seals_and_all_open() -> None:
    """A key is retired by putting a new one in front and waiting out the retention."""
    before = seal(KeyRing(OLD))
    rotated = KeyRing(f"{NEW},{OLD}")
    assert rotated.open(before, purpose=PURPOSE, aad=AAD) == PLAIN
    after = seal(rotated)
    assert after[2:5] == b"new"
    assert KeyRing(NEW).open(after, purpose=PURPOSE, aad=AAD) == PLAIN
    with pytest.raises(UnsealError):
        KeyRing(NEW).open(before, purpose=PURPOSE, aad=AAD)
    with pytest.raises(UnsealError):
        KeyRing(OLD).open(after, purpose=PURPOSE, aad=AAD)


def test_a_passphrase_is_the_key_k1_and_can_be_rotated_out() -> None:
    """Whoever began with a bare string can go on with named keys, the first of which it is not."""
    sealed = seal(KeyRing(PASSPHRASE))
    assert sealed[2:4] == b"k1"
    assert KeyRing(PASSPHRASE).open(sealed, purpose=PURPOSE, aad=AAD) == PLAIN
    with pytest.raises(UnsealError):
        KeyRing(PASSPHRASE + "!").open(sealed, purpose=PURPOSE, aad=AAD)


def test_a_key_of_the_same_name_with_other_bytes_opens_nothing() -> None:
    """The name finds the key, it does not replace it."""
    other = "old:" + base64.b64encode(b"x" * 32).decode()
    with pytest.raises(UnsealError):
        KeyRing(other).open(seal(), purpose=PURPOSE, aad=AAD)


# -- what does not open


@pytest.mark.parametrize(
    ("purpose", "aad"), [(b"other", AAD), (PURPOSE, b"other"), (b"", AAD), (PURPOSE, b""), (AAD, PURPOSE)]
)
def test_opens_only_for_its_purpose_and_its_owner(purpose: bytes, aad: bytes) -> None:
    """Moved to another row, or used for something else, it stays shut."""
    with pytest.raises(UnsealError):
        RING.open(seal(), purpose=purpose, aad=aad)


def test_an_event_opens_only_as_itself_and_for_its_account() -> None:
    """Whoever may write to Redis cannot pass one customer's call to another."""
    sealed = seal_event(RING, PLAIN, event_id="evt_1", account_id="acc_1")
    assert open_event(RING, sealed, event_id="evt_1", account_id="acc_1") == PLAIN
    for event_id, account_id in (("evt_2", "acc_1"), ("evt_1", "acc_2"), ("evt_1 ", "acc_1"), ("evt_", "1 acc_1")):
        with pytest.raises(UnsealError):
            open_event(RING, sealed, event_id=event_id, account_id=account_id)


def _regions() -> dict[str, range]:
    return {
        "version": range(1),
        "length of the key's id": range(1, 2),
        "the key's id": range(2, 5),
        "nonce": range(5, 17),
        "ciphertext": range(17, 17 + len(PLAIN)),
        "tag": range(17 + len(PLAIN), 17 + len(PLAIN) + 16),
    }


@pytest.mark.parametrize("region", _regions())
def test_a_changed_byte_anywhere_is_noticed(region: str) -> None:
    """Every bit of every byte."""
    sealed = seal()
    assert max(place for places in _regions().values() for place in places) == len(sealed) - 1
    for place in _regions()[region]:
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(UnsealError):
                RING.open(bytes(changed), purpose=PURPOSE, aad=AAD)


def test_the_name_of_another_key_of_the_ring_is_noticed() -> None:
    """The header is not authenticated by itself: the key is what proves it."""
    ring = KeyRing(f"{OLD},{NEW}")
    with pytest.raises(UnsealError):
        ring.open(seal(ring).replace(b"old", b"new", 1), purpose=PURPOSE, aad=AAD)


def test_any_part_of_it_alone_is_noticed() -> None:
    """Cut anywhere, or with something behind it."""
    sealed = seal()
    for length in range(len(sealed)):
        with pytest.raises(UnsealError):
            RING.open(sealed[:length], purpose=PURPOSE, aad=AAD)
    with pytest.raises(UnsealError):
        RING.open(sealed + b"\x00", purpose=PURPOSE, aad=AAD)


@given(st.binary(max_size=200))
def test_junk_does_not_open(junk: bytes) -> None:
    """It raises nothing else."""
    with pytest.raises(UnsealError):
        RING.open(b"\x01\x03old" + junk, purpose=PURPOSE, aad=AAD)
    with pytest.raises(UnsealError):
        RING.open(junk, purpose=PURPOSE, aad=AAD)


# -- look-ups


def test_a_secret_is_looked_up_under_every_key() -> None:
    """The first key's first; without the ring the hashes tell nothing."""
    both = KeyRing(f"{NEW},{OLD}")
    assert both.lookup_hashes("s3cret") == KeyRing(NEW).lookup_hashes("s3cret") + KeyRing(OLD).lookup_hashes("s3cret")
    assert len(set(both.lookup_hashes("s3cret") + both.lookup_hashes("s3creT"))) == 4
    assert "s3cret" not in "".join(both.lookup_hashes("s3cret"))


@pytest.mark.parametrize("secret", ["", "\u00fc", "\ud800", "x" * 100_000])
def test_any_header_can_be_looked_up(secret: str) -> None:
    """What a sender gives as a secret never raises."""
    assert len(RING.lookup_hashes(secret)[0]) == 64


# -- reading the ring


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "too short",
        "x" * 31,
        ":" + base64.b64encode(b"o" * 32).decode(),  # no id
        "k1:",
        "k1:" + base64.b64encode(b"s3cret" * 5).decode(),  # 30 bytes
        "k1:" + base64.b64encode(b"s" * 33).decode(),
        "k1:not*base64s3cret" + "x" * 30,
        "k1:s3cretsch\u00fcssel" + "x" * 30,
        "kl\u00fc:" + base64.b64encode(b"o" * 32).decode(),
        f"{OLD},{OLD}",
        f"{OLD},s3cret:pass word with a colon in it, and long",
        "x" * 33 + ":" + base64.b64encode(b"o" * 32).decode(),
        ",:,",
        ", ,:",
    ],
)
def test_refuses_a_ring_that_makes_no_sense(spec: str) -> None:
    """By the variable's name, without a character of what may be a secret."""
    with pytest.raises(SettingsError) as refused:
        KeyRing(spec)
    text = f"{refused.value!r} {refused.value} {refused.value.__cause__!r} {refused.value.__context__!r}"
    assert "SWITCHHOOK_KEYS" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("spec", [f" {OLD} , {NEW} ", f"{OLD},{NEW},", f"{OLD},,{NEW}"])
def test_forgives_blanks_and_commas(spec: str) -> None:
    """As they come from editing a variable by hand."""
    assert repr(KeyRing(spec)) == "KeyRing(ids=['old', 'new'])"


def _fail_to_open(ring: KeyRing) -> None:
    ring.open(seal(KeyRing(NEW)), purpose=PURPOSE, aad=AAD)


def _fail_on_tag(ring: KeyRing) -> None:
    ring.open(seal() + b"x", purpose=PURPOSE, aad=AAD)


@pytest.mark.parametrize("fail", [_fail_to_open, _fail_on_tag])
def test_prints_neither_keys_nor_content(fail: Callable[[KeyRing], None]) -> None:
    """Not the ring, and not the error when something does not open."""
    with pytest.raises(UnsealError) as refused:
        fail(RING)
    for printed in (repr(RING), str(RING), repr(refused.value), str(refused.value), repr(refused.value.__cause__)):
        assert OLD[4:] not in printed
        assert "ooo" not in printed
        assert PLAIN.decode() not in printed
