"""`python -m bench`: start the real processes, offer load, print what was measured."""

from __future__ import annotations

import sys

import click
import msgspec

from bench import measures
from bench.stack import stack

MEASURES = ("accept", "deliver", "charge", "lag")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(MEASURES))
@click.option("--events", default=30_000, show_default=True, help="Events of each throughput measure.")
@click.option("--seconds", default=20, show_default=True, help="Length of the measure at 1,000 events/s.")
@click.option("--payload", "size_bytes", default=4096, show_default=True, help="Bytes of each payload.")
def main(names: tuple[str, ...], events: int, seconds: int, size_bytes: int) -> None:
    """Measure accept, deliver, charge and lag (default: all). Leave the machine alone meanwhile.

    Each measured process has core 0 for itself; Redis, Postgres, senders and receivers share core 1.
    """
    chosen = names or MEASURES
    with stack() as servers:
        for name in chosen:
            click.echo(f"measuring {name} ...", err=True)
            match name:
                case "accept":
                    lines = measures.accept(servers, count=events, size_bytes=size_bytes)
                case "deliver":
                    lines = measures.deliver(servers, count=events, size_bytes=size_bytes)
                case "charge":
                    lines = measures.charge(servers, count=events)
                case _:
                    lines = measures.lag(servers, seconds=seconds, size_bytes=size_bytes)
            for measured in lines:
                click.echo(msgspec.json.encode(measured).decode())
                sys.stdout.flush()
            measures.reset(servers)


if __name__ == "__main__":
    main()
