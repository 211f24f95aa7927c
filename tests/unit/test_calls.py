"""Facts between versions: what one version of the code writes, the next and the one before read."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from relay.calls import TRUST_KEY, TRUST_PROVIDER, CallEvent, Facts
from relay.outbox.outcomes import decode_facts, encode_facts

CALL = CallEvent(provider="retell", kind="call_started", event_class="event", conversation_id="call_1")
FACTS = Facts(event_id="evt_1", account_id="acc_1", call=CALL, session_id=7, accepted_at_ms=1_795_000_000_000)


def read(kept: bytes) -> Facts:
    return decode_facts(kept, event_id="evt_1", account_id="acc_1")


def test_a_beginning_survives_the_outbox() -> None:
    """What the reader saw is what the record lane is told."""
    begun = replace(FACTS, call=replace(CALL, begins=True))
    assert read(encode_facts(begun)) == begun


def test_facts_of_the_version_before_tell_of_no_beginning() -> None:
    """It knew no such field; and what tells of none is written as it wrote it."""
    kept = encode_facts(FACTS)
    assert "b" not in msgspec.msgpack.decode(kept)["c"]
    assert read(kept).call.begins is False


def test_a_field_of_the_next_version_is_passed_over() -> None:
    """Both versions run for a moment while one takes the place of the other."""
    tree = msgspec.msgpack.decode(encode_facts(FACTS))
    tree["c"]["zz"], tree["zz"] = [1, {"new": True}], "new"
    assert read(msgspec.msgpack.encode(tree)) == FACTS


def test_trust_survives_the_outbox() -> None:
    """What the proof at the door was worth is what billing is told."""
    trusted = replace(FACTS, trust=TRUST_PROVIDER)
    assert read(encode_facts(trusted)) == trusted


def test_facts_of_the_version_before_are_trusted_least() -> None:
    """It knew no such field; and what is trusted least is written as it wrote it."""
    kept = encode_facts(FACTS)
    assert "v" not in msgspec.msgpack.decode(kept)
    assert read(kept).trust == TRUST_KEY
