"""The demo command."""

from __future__ import annotations

import click


@click.command()
@click.option("--once", is_flag=True, help="Play one round and exit; non-zero if anything is not accounted for.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where web listens (default: a free port).")
def demo(once: bool, port: int | None) -> None:
    """Show the whole path on this machine: real servers, a sample provider, a sample receiver.

    Everything lives in a temporary directory that is removed at the end.
    """
    from relay.demo.show import run  # noqa: PLC0415  the demo's servers are an extra

    raise SystemExit(run(once=once, port=port))
