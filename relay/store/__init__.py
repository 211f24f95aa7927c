"""Postgres: what may be kept for good. Metadata only; no column of any table can hold what was said.

Repositories are plain functions that take a Connection first, one module per noun. Transactions are opened with
`database.Database`, which also translates the errors of Postgres.
"""
