"""Recordings of calls that a customer hands in by their address: fetched, measured, and forgotten."""
