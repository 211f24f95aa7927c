"""How the unit tests look for examples: always for the same ones, and for as long as a slow machine takes."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis' own profile for machines whose speed is not known: no deadline, and nothing found only sometimes.
settings.load_profile("ci")
