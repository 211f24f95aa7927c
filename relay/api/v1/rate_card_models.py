"""Rate cards as JSON: what may be said of one, what is shown of one, and what it makes of a call."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from billing.card_fields import CardFields
from billing.rates import COMPONENTS
from relay.api.core.fields import GivenMoment, GivenRateCardId, RateCardId, RowNumber, Shaped, ShownMoment, ShownMoney
from relay.api.core.models import Input, Output

Money = Annotated[
    str,
    Shaped(r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "must be a decimal of 0 or more, such as 0.10, with at most 6 decimals"),
    Field(description="A decimal as text, in the card's currency: `0.10`.", examples=["0.10"]),
]
Minutes = Annotated[
    str,
    Shaped(r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "must be minutes, 0 or more, such as 1000, with at most 6 decimals"),
    Field(description="Minutes, a decimal as text.", examples=["1000"]),
]
Increments = Annotated[
    str,
    Shaped(r"^[0-9]{1,5}/[0-9]{1,5}$", "must be the first and the further seconds, such as 60/6"),
    Field(description="The first and the further seconds that are billed: `60/6`.", examples=["60/6"]),
]
Currency = Annotated[
    str,
    Shaped(r"^[A-Z]{3}$", "must be a currency's code in capitals, such as USD"),
    Field(description="ISO 4217; one per account."),
]
Rounding = Literal["half_up", "half_even", "half_down", "up", "down"]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Tier(Input):
    """A part of a month's minutes. The last tier has no `upTo`."""

    up_to: Annotated[Minutes | None, Field(description="Up to and including these minutes; left out in the last.")] = (
        None
    )
    unit_price: Money
    flat_fee: Annotated[Money, Field(description="Due once this tier is entered.")] = "0"


class Graduated(Input):
    """Each slice of the month at its own tier's price."""

    model: Literal["graduated"]
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=50)]


class Volume(Input):
    """All of the month at the price of the tier that it reaches."""

    model: Literal["volume"]
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=50)]


class Package(Input):
    """Whole packages of minutes: a begun one is paid for."""

    model: Literal["package"]
    size: Minutes
    unit_price: Annotated[Money, Field(description="Of a package.")]
    free_minutes: Minutes = "0"


class Included(Input):
    """Minutes that a monthly fee covers, and the price of each beyond them."""

    model: Literal["included"]
    minutes: Minutes
    unit_price: Money
    monthly_fee: Money = "0"


MonthPrice = Annotated[
    Graduated | Volume | Package | Included,
    Field(discriminator="model", description="What a month's minutes cost together, settled when it is closed."),
]


class CardBody(Input):
    """What a card says."""

    per_minute: Annotated[Money | None, Field(description="Needed unless there is a markup.")] = None
    currency: Currency = "USD"
    increments: Increments = "1/1"
    connect_fee: Money = "0"
    free_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    min_charge: Money | None = None
    max_charge: Money | None = None
    decimals: Annotated[int, Field(ge=0, le=6, description="What a charge is rounded to.")] = 6
    rounding: Rounding = "half_up"
    components: Annotated[
        dict[str, Money] | None,
        Field(max_length=len(COMPONENTS), description=f"What `perMinute` is made of: {', '.join(COMPONENTS)}."),
    ] = None
    markup: Annotated[
        Money | None, Field(description="What the provider's cost is multiplied by, in place of `perMinute`.")
    ] = None
    month_price: MonthPrice | None = None

    def card(self) -> CardFields:
        """What was given of it, as billing reads it."""
        names = CardFields.__annotations__
        said: Any = {name: value for name, value in self.given().items() if name in names}
        if isinstance(said.get("month_price"), Input):
            said["month_price"] = said["month_price"].model_dump(by_alias=True, exclude_unset=True)
        return said  # type: ignore[no-any-return]


class NewRateCard(CardBody):
    """A rate card to be made. Without `from` the first card of its scope holds from ever, a later one from now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"perMinute": "0.10", "increments": "60/6"}]})

    effective_from: Annotated[GivenMoment | None, Field(alias="from")] = None
    offered: Annotated[bool, Field(description="Not in force by itself: templates of the account may choose it.")] = (
        False
    )
    template_id: Annotated[RowNumber | None, Field(description="Only for the sessions of this template.")] = None
    tag: Annotated[Tag | None, Field(description="Only for sessions with this tag.")] = None


class RateCard(Output):
    """A rate card; `from` null: from the beginning of time."""

    id: RateCardId
    per_minute: ShownMoney
    currency: Annotated[str, Field(examples=["USD"])]
    increments: Annotated[str, Field(examples=["60/6"])]
    connect_fee: ShownMoney
    free_seconds: int
    min_charge: ShownMoney | None
    max_charge: ShownMoney | None
    decimals: int
    rounding: Rounding
    components: dict[str, ShownMoney] | None
    markup: Annotated[str, Field(examples=["1.20"])] | None
    month_price: Annotated[
        dict[str, Any] | None, Field(description="As it is given when a card is made, with all of its fields.")
    ]
    effective_from: Annotated[ShownMoment | None, Field(alias="from")]
    offered: bool
    template_id: int | None
    tag: str | None
    created_at: ShownMoment


class NewPreview(CardBody):
    """A call to be priced: by a card as it would be made, or by `rateCardId`, one of the account's own."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"perMinute": "0.10", "seconds": 91}]})

    per_minute: Annotated[Money | None, Field(description="Needed unless there is a markup or a `rateCardId`.")] = None
    rate_card_id: Annotated[
        GivenRateCardId | None, Field(description="In place of all that a card says: one of the account's.")
    ] = None
    seconds: Annotated[
        Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=3)] | None,
        Field(description="How long the call lasted. Needed unless there are `monthMinutes`."),
    ] = None
    provider_cost_usd: Annotated[
        Money | None, Field(description="What the provider asks for the call; a card with a markup needs it.")
    ] = None
    month_minutes: Annotated[
        Minutes | None, Field(description="Billed minutes of a month, to be priced by the card's `monthPrice`.")
    ] = None


class Line(Output):
    """One thing that is paid for: `quantity` x `unitPrice` = `exact`, and the amounts add up to that of the call."""

    line: Annotated[str, Field(examples=["usage"])]
    quantity: Annotated[str, Field(examples=["1.6"])]
    unit_price: ShownMoney
    exact: Annotated[str, Field(examples=["0.16"])]
    amount: ShownMoney


class Slice(Output):
    """A part of a month's price."""

    quantity: Annotated[str, Field(examples=["1000"])]
    unit_price: ShownMoney
    exact: Annotated[str, Field(examples=["80"])]
    words: Annotated[str, Field(examples=["1000 min, up to 1000 x 0.08"])]


class Month(Output):
    """What a month of so many minutes comes to; fees of its calls are not in it."""

    minutes: Annotated[str, Field(examples=["1200"])]
    exact: Annotated[str, Field(examples=["92"])]
    amount: Annotated[str, Field(examples=["92.000000"])]
    currency: Annotated[str, Field(examples=["USD"])]
    slices: list[Slice]


class Preview(Output):
    """What the call would cost, step by step; nothing was charged. Without `seconds` there is no call, only `month`."""

    billed_seconds: int | None
    exact: Annotated[str | None, Field(description="Before it is rounded, once.", examples=["0.16"])]
    amount: ShownMoney | None
    currency: Annotated[str, Field(examples=["USD"])]
    steps: Annotated[list[str], Field(examples=[["91 s on 60/6 bills 96 s"]])]
    lines: list[Line]
    month: Month | None
