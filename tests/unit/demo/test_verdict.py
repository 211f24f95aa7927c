"""The demo's verdict on a round."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.demo.verdict import Tally, judged

GOOD = Tally(accepted=6, delivered=6, refused=0, dead=0, charged=3, held=0, unaccounted=0)


def test_round_in_which_all_arrived_succeeds() -> None:
    """Everything delivered and each call charged once is exit code 0, and the line says the counts."""
    verdict = judged(GOOD, events=6, calls=3)
    assert verdict.exit_code == 0
    assert verdict.shortcomings == ()
    assert verdict.line == "demo: 6 accepted, 6 delivered, 3 charged, 0 lost"


def test_lost_delivery_fails_the_round() -> None:
    """An accepted event that was neither delivered nor given up counts as lost."""
    verdict = judged(replace(GOOD, delivered=5), events=6, calls=3)
    assert verdict.exit_code == 1
    assert verdict.line == "demo: 6 accepted, 5 delivered, 3 charged, 1 lost"
    assert len(verdict.shortcomings) == 1
    assert "1 accepted events" in verdict.shortcomings[0]


@pytest.mark.parametrize(
    ("tally", "lost", "named"),
    [
        # One webhook was refused by the ingress: nothing is lost, and still it is not what was promised.
        (replace(GOOD, accepted=5, delivered=5), 0, "5 of 6 webhooks"),
        # Given up on record is not lost, but no success either.
        (replace(GOOD, delivered=5, dead=1), 0, "1 deliveries were given up"),
        # More delivered than accepted: something was invented.
        (replace(GOOD, delivered=7), -1, "-1 accepted events"),
        # A genuine delivery arrived after one that was not.
        (replace(GOOD, refused=1), 0, "refused 1"),
        # A call that was charged twice, and one that was not charged.
        (replace(GOOD, charged=4), 0, "4 charges were written for 3 calls"),
        (replace(GOOD, charged=2), 0, "2 charges were written for 3 calls"),
        # Settled, but not forgotten.
        (replace(GOOD, held=1), 0, "content of 1 events"),
        # The outbox's own audit disagrees, or cannot be read.
        (replace(GOOD, unaccounted=1), 0, "1 unaccounted"),
        (replace(GOOD, unaccounted=-1), 0, "-1 unaccounted"),
        (replace(GOOD, unaccounted=None), 0, "could not be read"),
    ],
)
def test_anything_else_than_promised_fails_the_round(tally: Tally, lost: int, named: str) -> None:
    """Each way to fall short is an exit code of 1, and is named."""
    verdict = judged(tally, events=6, calls=3)
    assert verdict.exit_code == 1
    assert tally.lost == lost
    assert [named in shortcoming for shortcoming in verdict.shortcomings] == [True]
