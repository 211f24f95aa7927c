"""Batches of charged events as the stream keeps them."""

from __future__ import annotations

import zlib
from decimal import Decimal

import msgspec
import pytest

from relay.calls import CallEvent, Ending, Facts
from relay.outbox.charged import ChargedEvent, decoded, encoded
from relay.outbox.outcomes import encode_facts

FACTS = Facts(
    event_id="evt_1",
    account_id="acc_1",
    call=CallEvent(
        provider="retell",
        kind="call_ended",
        event_class="event",
        conversation_id="call_1",
        ending=Ending(status="completed", duration_seconds="91.000"),
    ),
    session_id=5,
    accepted_at_ms=1_795_000_000_000,
)
KEPT = ChargedEvent(event_id="evt_1", account_id="acc_1", facts=encode_facts(FACTS), session_id=7)


def packed(value: object) -> bytes:
    """A batch as another version may have written it."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(msgspec.msgpack.encode(value)) + packer.flush()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"template_id": 3, "pinned_card_id": "rc_1", "tag": "gold", "own_key": True},
        {"amount": Decimal("0.151667")},
        {"amount": Decimal(0)},
        {"amount": Decimal("1E+3")},
    ],
)
def test_what_is_kept_comes_back(changes: dict[str, object]) -> None:
    """To the last decimal."""
    event = msgspec.structs.replace(KEPT, **changes)
    assert decoded(encoded([event, KEPT])) == [event, KEPT]


def test_facts_are_whole_again_and_of_the_session_that_was_charged() -> None:
    """It may be another than they named."""
    assert KEPT.decoded() == msgspec.structs.replace(FACTS, session_id=7)


def test_versions_read_each_others_batches() -> None:
    """One that knows fewer fields, and one that knows more."""
    least = ["evt_1", "acc_1", KEPT.facts, 7]
    assert decoded(packed([least])) == [KEPT]
    assert decoded(packed([[*least, None, None, None, False, None, "of a later version"]])) == [KEPT]


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"nonsense",
        packed([["evt_1"]]),
        packed({"not": "a list"}),
        encoded([KEPT] * 9)[:-3],
        b"\x93" + encoded([KEPT]),
    ],
)
def test_what_is_no_batch_is_refused(batch: bytes) -> None:
    """By one kind of error."""
    with pytest.raises(ValueError):
        decoded(batch)


def test_what_unpacks_without_end_is_refused() -> None:
    """A batch of ours is a few hundred events."""
    with pytest.raises(ValueError, match="whole"):
        decoded(packed(b"0" * (65 * 1024 * 1024)))
