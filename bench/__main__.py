"""`python -m bench`: start the real processes, offer load, print what was measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import msgspec

from bench import closing, cold, idle, latency, memory, throughput, usage_report
from bench.backlog import reset
from bench.lines import Line
from bench.stack import Stack, stack

_LARGE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of everything."""

    events: int
    backlog: int
    seconds: int
    size_bytes: int
    ledger_rows: int

    @property
    def large_events(self) -> int:
        return max(1, self.events // 10)


MEASURES: dict[str, Callable[[Stack, Amounts], Iterator[Line]]] = {
    "accept": lambda s, a: throughput.accept(s, count=a.events, size_bytes=a.size_bytes),
    "deliver": lambda s, a: throughput.deliver(s, count=a.events, size_bytes=a.size_bytes),
    "charge": lambda s, a: throughput.charge(s, count=a.events),
    "lag": lambda s, a: latency.at_1000(s, seconds=a.seconds, size_bytes=a.size_bytes),
    "memory": lambda s, a: memory.redis_bytes(s, count=a.events, size_bytes=a.size_bytes),
    "accept-64k": lambda s, a: throughput.accept(s, count=a.large_events, size_bytes=_LARGE_BYTES),
    "deliver-64k": lambda s, a: throughput.deliver(s, count=a.large_events, size_bytes=_LARGE_BYTES),
    "backlog": lambda s, a: memory.backlog(s, count=a.backlog, size_bytes=a.size_bytes),
    "idle": lambda s, a: idle.idle(s, seconds=3 * a.seconds),
    # Last, because their thousand endpoints, and their rows, stay.
    "cold": lambda s, a: cold.deliver_tls_cold(s, size_bytes=a.size_bytes),
    "closing": lambda s, a: closing.month(s, calls=max(1, a.ledger_rows // 10)),
    "usage": lambda s, a: usage_report.by_day(s, ledger_rows=a.ledger_rows),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASURES)))
@click.option("--events", default=30_000, show_default=True, help="Events of each throughput measure.")
@click.option("--backlog", default=200_000, show_default=True, help="Events of the large backlog.")
@click.option("--seconds", default=20, show_default=True, help="Length of the measure at 1,000 events/s.")
@click.option("--payload", "size_bytes", default=4096, show_default=True, help="Bytes of each payload.")
@click.option("--ledger", "ledger_rows", default=10_000_000, show_default=True, help="Rows of the large ledger.")
def main(*, names: tuple[str, ...], **amounts: int) -> None:
    """Measure what is named (default: everything, half an hour: the large ledger takes most of it).

    Leave the machine alone meanwhile.
    Measured processes have core 0, each for itself but in lag and idle; everything else shares core 1.
    """
    with stack() as servers:
        for name in names or MEASURES:
            click.echo(f"measuring {name} ...", err=True)
            for measured in MEASURES[name](servers, Amounts(**amounts)):
                click.echo(msgspec.json.encode(measured).decode())
                sys.stdout.flush()
            reset(servers)


if __name__ == "__main__":
    main()
