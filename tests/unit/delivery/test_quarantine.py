"""When a suspect may be claimed, and what waits for it: decided without a clock."""

from __future__ import annotations

from relay.delivery.quarantine import Quarantine
from relay.outbox import Claim, Claims


def answer(*, waiting: bool, claims: int | None = None) -> Claims:
    """An answer of claim: whether suspects wait, and one unit with so many claims."""
    unit = Claim("ep_1", "evt_1", b"1", 0, claims or 1, 0, 0, "", b"", b"")
    return Claims(0, 0, more=False, drain=waiting, units=() if claims is None else (unit,))


def test_nothing_is_held_while_no_suspect_waits() -> None:
    """The ordinary case costs nothing."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=False, claims=1), 10.0)
    assert not quarantine.holds(10.0, 5)
    assert not quarantine.is_due(10.0)


def test_waits_a_second_for_what_flies_and_no_longer() -> None:
    """A request that has been in flight for a second did not kill its process: it may go on hanging."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=False, claims=1), 10.0)
    quarantine.saw(answer(waiting=True), 10.1)
    assert quarantine.is_due(10.1)
    assert quarantine.holds(10.9, 5)
    assert not quarantine.holds(11.1, 5)


def test_idle_courier_takes_a_suspect_at_once() -> None:
    """With nothing in flight there is nothing to wait for."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=True), 10.0)
    assert not quarantine.holds(10.0, 0)


def test_suspect_flies_alone_and_then_the_others_have_their_turn() -> None:
    """A second alone, four for everyone else, then the next suspect."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=True, claims=3), 10.0)
    assert quarantine.holds(10.5, 1)
    assert not quarantine.holds(11.1, 1)
    assert not quarantine.is_due(14.9)
    assert quarantine.is_due(15.1)


def test_suspect_that_lands_early_holds_nobody() -> None:
    """Once nothing is in flight any more, the others go on."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=False, claims=3), 10.0)
    assert not quarantine.holds(10.2, 0)


def test_units_about_to_be_sent_count_as_flying() -> None:
    """What was claimed a moment ago is waited for, though an older request has long proved harmless."""
    quarantine = Quarantine()
    quarantine.saw(answer(waiting=False, claims=1), 10.0)
    quarantine.saw(answer(waiting=True, claims=1), 20.0)
    assert quarantine.holds(20.5, 257)
