"""What could be wrong with an installation, asked of it in a moment: each finding says what to do.

The judgments are pure functions of what was asked; `examination` asks. Nothing is reached but Redis, Postgres and the
resolver, and nothing is changed.
"""

from __future__ import annotations

from relay.doctor.examination import examine
from relay.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
