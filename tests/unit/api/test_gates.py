"""The gates of the API: bounded in all and for each owner, and open again afterwards."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from relay.api.core.gates import Gate, Gates
from relay.errors import ApiBusy


@pytest.mark.parametrize(
    ("threads", "most", "each", "slow", "slow_each"),
    [
        (256, 64, 16, 32, 8),
        (4096, 1024, 256, 512, 128),
        (32, 8, 2, 4, 1),
        (16, 4, 1, 2, 1),
        (8, 4, 1, 2, 1),
        (2, 2, 1, 1, 1),
        (1, 1, 1, 1, 1),
    ],
)
def test_the_api_has_a_part_of_the_threads(threads: int, most: int, each: int, slow: int, slow_each: int) -> None:
    """A quarter; of that a quarter for one account, half for what waits for others, an eighth for one that does."""
    gates = Gates(threads=threads)
    assert [(gate.most, gate.each) for gate in (gates.arrivals, gates.accounts, gates.slow)] == [
        (most, each),
        (most, each),
        (slow, slow_each),
    ]


def test_one_owner_has_a_share_and_leaves_room_for_others() -> None:
    """Over its share it is refused at once; over all of them everybody is."""
    gate = Gate(3, each=2)
    with ExitStack() as inside:
        for owner in ("a", "a", "b"):
            inside.enter_context(gate.passed(owner))
            if owner == "a":
                continue
            with pytest.raises(ApiBusy):
                inside.enter_context(gate.passed("a"))
        with pytest.raises(ApiBusy):
            inside.enter_context(gate.passed("c"))


def test_a_share_is_refused_while_there_is_room_in_all() -> None:
    """The reason is the owner, not the others."""
    gate = Gate(3, each=1)
    with gate.passed("a"), pytest.raises(ApiBusy), gate.passed("a"):
        pass
    with gate.passed("a"), gate.passed("b"), gate.passed("c"):
        pass


def test_who_leaves_makes_room() -> None:
    """However the block ends; nothing is remembered of an owner who is not inside."""
    gate = Gate(1, each=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.passed("a"):
            raise ZeroDivisionError
    with gate.passed("b"):
        pass
    assert not gate._of


def test_what_waits_for_others_leaves_room_for_what_does_not() -> None:
    """An account whose provider is silent can still read; one that is refused as slow holds no place."""
    gates = Gates(threads=256)
    with ExitStack() as inside:
        for _ in range(8):
            inside.enter_context(gates.admitted("a", is_slow=True))
        for _ in range(20):
            with pytest.raises(ApiBusy):
                inside.enter_context(gates.admitted("a", is_slow=True))
        for _ in range(8):
            inside.enter_context(gates.admitted("a", is_slow=False))
        with pytest.raises(ApiBusy):
            inside.enter_context(gates.admitted("a", is_slow=False))
        inside.enter_context(gates.admitted("b", is_slow=True))


def test_each_key_counts_by_itself_until_it_is_known_whose_it_is() -> None:
    """A flood of one key, or without any, leaves the lookup to others."""
    gates = Gates(threads=256)
    with ExitStack() as inside:
        for credential in ("sk_a", None):
            for _ in range(16):
                inside.enter_context(gates.arrived(credential))
            with pytest.raises(ApiBusy):
                inside.enter_context(gates.arrived(credential))
        inside.enter_context(gates.arrived("sk_b"))
