"""JSON log lines on standard output: a constant event name and allowed fields.

What libraries log is reduced to its origin and level, because their messages may hold anything: kombu prints whole
payloads, Postgres drivers print statements.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

from relay.telemetry import streams
from relay.telemetry.redaction import allowed

_LOGGER: Final = logging.getLogger("switchhook")
# Libraries whose messages are about the process itself and say nothing that came from outside.
_PLAIN_LOGGERS: Final = ("granian", "_granian")

# The server's own records, in the same form.
GRANIAN: Final = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "relay.telemetry.logs.JsonLines"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "loggers": {"_granian": {"handlers": ["stdout"], "level": "WARNING", "propagate": False}},
}


def configure(level: str) -> None:
    """Send every log record of this process through this module."""
    streams.unbuffer()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level)
    # What logging prints on standard error about a record that it could not write quotes the record's arguments.
    logging.raiseExceptions = False
    # Python's own hooks print an error's text, and that of everything it was chained to.
    threading.excepthook = _thread_failed
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable


def debug(event: str, **fields: object) -> None:
    """Log what helps while developing."""
    _LOGGER.debug(event, extra={"fields": fields})


def info(event: str, **fields: object) -> None:
    """Log what an operator may want to read later."""
    _LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log what an operator should look at some day."""
    _LOGGER.warning(event, extra={"fields": fields})


def alarm(event: str, **fields: object) -> None:
    """Log what an operator must look at now: something was lost, or refused that should not have been."""
    _LOGGER.error(event, extra={"fields": fields})


def failure(event: str, error: BaseException, **fields: object) -> None:
    """Log an unexpected error by its type and place. Its text stays out: it may quote what was being handled."""
    _LOGGER.error(event, extra={"fields": {**fields, "error": error, "where": _place(error)}})


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name == _LOGGER.name:
            line["event"] = record.msg
            line |= allowed(getattr(record, "fields", {}))
        elif record.name.startswith(_PLAIN_LOGGERS):
            line["event"] = record.getMessage()
        else:
            error = record.exc_info[1] if record.exc_info else None
            line["event"] = "library"
            line |= allowed({"logger": record.name, "where": f"{record.module}:{record.lineno}", "error": error})
        return json.dumps(line)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        failure("thread_failed", args.exc_value)


def _uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    # libcurl's binding comes here too, with what a callback raised.
    if isinstance(error, Exception):
        failure("uncaught", error)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        failure("uncaught", args.exc_value)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    frame = frames[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
