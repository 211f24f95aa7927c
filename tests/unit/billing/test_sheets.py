"""CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from billing.reports.sheets import Cell, written


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("  =1", "'  =1"),
        # Nothing to neutralise.
        ("a=1", "a=1"),
        ('he said "no", twice\r\nand left', 'he said "no", twice\r\nand left'),
        ("", ""),
        (None, ""),
        # Numbers stay numbers, negative ones too, and never have an exponent.
        (Decimal("-0.151667"), "-0.151667"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0E-6"), "0.000000"),
        (-7, "-7"),
    ],
)
def test_texts_that_a_spreadsheet_would_run_are_neutralised(cell: Cell, shown: str) -> None:
    """And come back as they were written but for that."""
    table = written(["name"], [[cell]])
    assert list(csv.reader(io.StringIO(table, newline=""))) == [["name"], [shown]]


def test_lines_end_as_rfc_4180_has_it() -> None:
    """The header's too."""
    assert written(["a", "b"], [["x", 1]]) == "a,b\r\nx,1\r\n"
