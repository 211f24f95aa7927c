"""A year of made-up calls, what their providers say of them, and what they cost, computed without any code of ours.

Twenty calls a day: by Retell and ElevenLabs, on four agents with prices of their own; some are told twice, some are
corrected by a later event, some failed, lasted nothing, or have no duration at all. The arithmetic here is of
fractions, and written from the published rules, not from `billing`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

YEAR: Final = 2025
DAYS: Final = 365
CALLS_A_DAY: Final = 20
# Which agent a call is held by; each has a template, the last three with a price of their own.
PLAIN, VIP, ROUNDED, OFFERED = "agent_plain", "agent_vip", "agent_rounded", "agent_offered"
AGENTS: Final = (PLAIN, VIP, ROUNDED, OFFERED)
VIP_TAG: Final = "vip"
SECOND_CARD_FROM: Final = datetime(YEAR, 4, 1, tzinfo=UTC)
ROUNDED_FROM: Final = datetime(YEAR, 3, 15, 12, tzinfo=UTC)
MONTHLY_FROM: Final = datetime(YEAR, 7, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Price:
    """A price in the plainest form."""

    name: str
    per_minute: str
    initial: int = 1
    step: int = 1
    free: int = 0
    fee: str = "0"
    low: str | None = None
    high: str | None = None
    decimals: int = 6
    rounds_up: bool = False
    # Bounds in minutes and price of each tier; the last has no bound.
    tiers: tuple[tuple[int | None, str], ...] = ()


FIRST = Price("first", "0.10", 60, 6, fee="0.01")
SECOND = Price("second", "0.12", 1, 1, low="0.02", high="1.5")
MONTHLY = Price("monthly", "0.10", 1, 1, tiers=((100, "0.10"), (500, "0.08"), (None, "0.05")))
TAGGED = Price("tagged", "0.20", 30, 6, free=10)
TO_CENTS = Price("rounded", "0.07", 6, 6, decimals=2, rounds_up=True)
CHOSEN = Price("chosen", "0.033333", 60, 60)


@dataclass(frozen=True, slots=True)
class Told:
    """What one webhook says of a call: milliseconds that it lasted, None if it does not say."""

    kind: str
    ms: int | None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and its webhooks in the order in which a provider sends them; the last one knows best."""

    number: int
    provider: Literal["retell", "elevenlabs"]
    agent: str
    start: datetime
    told: tuple[Told, ...]

    @property
    def conversation_id(self) -> str:
        return f"call_{self.number:06}"

    @property
    def month(self) -> int:
        return self.start.month

    def bodies(self, workspace: str) -> list[bytes]:
        """The webhooks as the provider sends them; an agent is of one workspace."""
        write = _retell if self.provider == "retell" else _elevenlabs
        return [write(self, told, agent_id(workspace, self.provider, self.agent)) for told in self.told]

    @property
    def ms(self) -> int | None:
        """How long it lasted, by the word that counts most: the last that names a duration."""
        known = [told.ms for told in self.told if told.ms is not None]
        if known:
            return known[-1]
        return 0 if self.told[-1].failed else None


def calls(seed: int = 2025) -> Iterator[Call]:
    """The year's calls, in the order of their start."""
    chance = random.Random(seed)
    number = 0
    for day in range(DAYS):
        midnight = datetime(YEAR, 1, 1, tzinfo=UTC) + timedelta(days=day)
        for start_ms in sorted(chance.sample(range(86_400_000), CALLS_A_DAY)):
            number += 1
            provider: Literal["retell", "elevenlabs"] = chance.choice(("retell", "elevenlabs"))
            start = midnight + timedelta(milliseconds=start_ms)
            if provider == "elevenlabs":
                start = start.replace(microsecond=0)
            yield Call(number, provider, chance.choice(AGENTS), start, _story(chance, provider))


def _story(chance: random.Random, provider: str) -> tuple[Told, ...]:
    ms = chance.randrange(1, 900_000) if provider == "retell" else chance.randrange(1, 900) * 1000
    final = "call_analyzed" if provider == "retell" else "post_call_transcription"
    match chance.randrange(100):
        case 0 | 1:
            return (Told(final, 0),)
        case 2:
            return (Told(final, None),)
        case 3 | 4 if provider == "retell":
            return (Told("call_ended", 0, failed=True),)
        case 5 | 6 | 7 | 8 if provider == "retell":
            return (Told("call_ended", ms + 1_500), Told(final, ms))
        case 9 | 10 | 11:
            return (Told(final, ms), Told(final, ms))
    return (Told("call_ended", ms), Told(final, ms)) if provider == "retell" else (Told(final, ms),)


def agent_id(workspace: str, provider: str, agent: str) -> str:
    """What a provider calls an agent."""
    return f"{provider}_{agent}_{workspace}"


def _retell(call: Call, told: Told, agent_id: str) -> bytes:
    start_ms = round(call.start.timestamp() * 1000)
    members: dict[str, object] = {"call_id": call.conversation_id, "agent_id": agent_id}
    members |= {"call_status": "error" if told.failed else "ended", "start_timestamp": start_ms}
    if told.ms is not None:
        members |= {"end_timestamp": start_ms + told.ms, "duration_ms": told.ms}
    return json.dumps({"event": told.kind, "call": members}).encode()


def _elevenlabs(call: Call, told: Told, agent_id: str) -> bytes:
    metadata: dict[str, object] = {"start_time_unix_secs": round(call.start.timestamp())}
    if told.ms is not None:
        metadata["call_duration_secs"] = told.ms // 1000
    data = {"agent_id": agent_id, "conversation_id": call.conversation_id, "status": "done", "metadata": metadata}
    stamp = round(call.start.timestamp()) + 1000
    return json.dumps({"type": told.kind, "event_timestamp": stamp, "data": data}).encode()


def price_of(call: Call) -> Price:
    """The price that a call is charged by: its agent's own, else the account's at its start."""
    if call.agent == OFFERED:
        return CHOSEN
    if call.agent == VIP:
        return TAGGED
    if call.agent == ROUNDED and call.start >= ROUNDED_FROM:
        return TO_CENTS
    if call.start >= MONTHLY_FROM:
        return MONTHLY
    return SECOND if call.start >= SECOND_CARD_FROM else FIRST


def billed_seconds(ms: int, price: Price) -> int:
    """Seconds that are paid for."""
    seconds = max(0, -(-ms // 1000) - price.free)
    if seconds == 0:
        return 0
    steps = max(0, -(-(seconds - price.initial) // price.step))
    return price.initial + steps * price.step


def cost(ms: int, price: Price) -> Decimal:
    """What a call costs, in money as it is paid."""
    if ms == 0:
        return Decimal(0)
    exact = Fraction(price.per_minute) * billed_seconds(ms, price) / 60 + Fraction(price.fee)
    if price.low is not None:
        exact = max(exact, Fraction(price.low))
    if price.high is not None:
        exact = min(exact, Fraction(price.high))
    return rounded(exact, price.decimals, up=price.rounds_up)


def month_price(seconds: int, price: Price) -> Decimal:
    """What a month's billed seconds cost together, each slice at its own tier's price."""
    left, floor, whole = Fraction(seconds, 60), Fraction(0), Fraction(0)
    for bound, unit in price.tiers:
        width = left if bound is None else min(left, bound - floor)
        whole += width * Fraction(unit)
        left -= width
        floor = floor if bound is None else Fraction(bound)
        if left <= 0:
            break
    return rounded(whole, 6)


def rounded(exact: Fraction, decimals: int, *, up: bool = False) -> Decimal:
    """Half up, or always up, to so many decimals. Amounts are 0 or more."""
    scaled = exact * 10**decimals
    whole = -(-scaled.numerator // scaled.denominator) if up else int(scaled + Fraction(1, 2))
    return Decimal(whole).scaleb(-decimals)


@dataclass(slots=True)
class Month:
    """What one month comes to."""

    sessions: int = 0
    unrated: int = 0
    billed_seconds: int = 0
    charged: Decimal = Decimal(0)
    adjustment: Decimal = Decimal(0)

    @property
    def subtotal(self) -> Decimal:
        return self.charged + self.adjustment

    @property
    def total(self) -> Decimal:
        """As it is paid: to the cent."""
        return rounded(Fraction(self.subtotal), 2)


def months(of: list[Call]) -> dict[int, Month]:
    """What each month comes to, by its number."""
    found: dict[int, Month] = {}
    on_monthly: dict[int, tuple[int, Decimal]] = {}
    for call in of:
        month = found.setdefault(call.month, Month())
        month.sessions += 1
        if call.ms is None:
            month.unrated += 1
            continue
        price = price_of(call)
        seconds, amount = billed_seconds(call.ms, price), cost(call.ms, price)
        month.billed_seconds += seconds
        month.charged += amount
        if price.tiers:
            before = on_monthly.get(call.month, (0, Decimal(0)))
            on_monthly[call.month] = before[0] + seconds, before[1] + amount
    for number, (seconds, amount) in on_monthly.items():
        found[number].adjustment = month_price(seconds, MONTHLY) - amount
    return found
