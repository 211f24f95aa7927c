"""What a process has in flight: who may have how much of it."""

from __future__ import annotations

from relay.delivery.load import Load
from relay.outbox import Claim, Room

SLOTS = 16
MOST_BYTES = 1600


def claim(*, size: int = 10, is_on_probation: bool = False, account_id: str = "acc_1") -> Claim:
    """A leased unit with so much sealed content."""
    return Claim(
        key="ep_1",
        event_id="evt_1",
        token=b"1",
        attempts=0,
        claims=1,
        accepted_ms=0,
        end_ms=0,
        gate="",
        facts=b"",
        sealed=b"x" * size,
        is_on_probation=is_on_probation,
        account_id=account_id,
    )


def load() -> Load:
    """An empty process of 16 slots and 1,600 bytes."""
    return Load(slots=SLOTS, most_bytes=MOST_BYTES)


def test_an_empty_process_has_room_for_all() -> None:
    """Half of it for endpoints on probation."""
    assert load().room() == Room(16, 1600, 8, 800, ())
    assert not load().is_full


def test_units_and_bytes_are_counted_until_they_end() -> None:
    """Sent or not."""
    it = load()
    one, other = claim(size=100), claim(size=200)
    it.claimed(one)
    it.claimed(other)
    it.ended(other)
    assert it.room() == Room(15, 1500, 8, 800, ())
    it.ended(one)
    assert it.room() == load().room()
    assert it.units == 0


def test_a_process_is_full_by_units_or_by_bytes() -> None:
    """Whichever comes first."""
    many, large = load(), load()
    for _ in range(SLOTS):
        assert not many.is_full
        many.claimed(claim(size=0))
    large.claimed(claim(size=MOST_BYTES))
    assert many.is_full
    assert large.is_full


def test_endpoints_on_probation_have_a_share() -> None:
    """And never less than none, when one large unit went past it."""
    it = load()
    it.claimed(claim(size=100, is_on_probation=True))
    assert it.room() == Room(15, 1500, 7, 700, ())
    it.claimed(claim(size=900, is_on_probation=True, account_id="acc_2"))
    assert it.room() == Room(14, 600, 6, 0, ())


def test_an_account_that_has_its_share_gets_no_more() -> None:
    """By units or by bytes, until something of it has ended."""
    it = load()
    small, large = claim(size=0, account_id="acc_many"), claim(size=1000, account_id="acc_large")
    for _ in range(10):
        assert it.room().full_accounts == ()
        it.claimed(small)
    assert it.room().full_accounts == ("acc_many",)
    it.claimed(large)
    assert it.room().full_accounts == ("acc_many", "acc_large")
    it.ended(small)
    it.ended(large)
    assert it.room().full_accounts == ()
