"""Transactions on Postgres, and its errors in our words.

Postgres puts statements and values into its error texts, and both may hold a customer's data: no text of Postgres,
psycopg or SQLAlchemy leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from relay.errors import Conflict, NotFound, SwitchhookError, Unavailable

# SQLSTATEs after which the same statement may work: connection (08), rollback by the server (40), resources (53),
# shutdown and cancellation (57), system trouble (58), a lock not granted in time, a standby that is read-only.
_PASSING_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
_PASSING_STATES: Final = frozenset({"55P03", "25006"})
# What Postgres has no state for (a disk quota that is used up, say) it calls an internal error; from where it reads and
# writes files that too is trouble of its system, not of the row.
_INTERNAL_ERROR: Final = "XX000"
_FILE_SOURCES: Final = frozenset({"md.c", "fd.c"})


class StatementRefused(SwitchhookError):
    """Postgres or its driver refused a statement and would refuse it again.

    `sqlstate` says why, `constraint` which rule, where Postgres names them; neither holds values.
    """

    code = "statement_refused"

    def __init__(self, kind: str, *, sqlstate: str | None = None, constraint: str | None = None) -> None:
        super().__init__(f"Postgres refused a statement: {kind}, SQLSTATE {sqlstate}, constraint {constraint}")
        self.sqlstate = sqlstate
        self.constraint = constraint


class Database:
    """Transactions on one engine.

    They raise Unavailable when Postgres is away or out of resources, Conflict for something that exists already,
    NotFound for a reference to what does not exist (within this account), StatementRefused for anything else.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back when the block raises."""
        with translated(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of executing statements into ours: where it happened is kept, the texts and values are not.

    Within a transaction it is for who wants to say more of one of them: the transaction has failed all the same.
    SQLAlchemy's complaints about a statement that was never sent are mistakes of ours, and pass.
    """
    try:
        yield
    except (StatementError, PoolTimeout) as error:
        raise _translation(error).with_traceback(error.__traceback__) from None


def _translation(error: StatementError | PoolTimeout) -> SwitchhookError:
    if isinstance(error, PoolTimeout):
        return Unavailable("all connections to Postgres are busy; try again shortly")
    cause = error.orig
    if not isinstance(cause, psycopg.Error):
        return StatementRefused(type(error).__name__)
    sqlstate = cause.sqlstate
    if sqlstate == "23505":
        return Conflict(constraint=cause.diag.constraint_name)
    if sqlstate == "23503":
        return NotFound()
    if sqlstate is None:
        # The driver's own words: what is not a lost connection is a value or a statement that it cannot send.
        passes = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    else:
        passes = (
            sqlstate in _PASSING_STATES
            or sqlstate[:2] in _PASSING_CLASSES
            or (sqlstate == _INTERNAL_ERROR and cause.diag.source_file in _FILE_SOURCES)
        )
    if passes:
        return Unavailable("Postgres cannot be reached or is too busy; nothing was stored")
    return StatementRefused(type(cause).__name__, sqlstate=sqlstate, constraint=cause.diag.constraint_name)
