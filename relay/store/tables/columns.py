"""What columns are made of."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, Numeric, String
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata: Final = MetaData()

FACT: Final = String(256)
MOMENT: Final = TIMESTAMP(timezone=True)
# Kept to a millionth: rounding each call to cents turns 4.83 into 5.
MONEY: Final = Numeric(18, 6)
# What many calls come to: a million times what one may cost.
SUM: Final = Numeric(24, 6)
# Exact figures keep every digit they came with.
EXACT: Final = Numeric()
