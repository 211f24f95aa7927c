"""The processes of the Procfile."""

from __future__ import annotations

import resource

import click

from relay import queues
from relay.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here instead of on PORT.")
@click.option(
    "--fd",
    "descriptor",
    type=click.IntRange(0, 2**31 - 1),
    help="Serve the listening socket that was inherited under this number, instead of HOST and PORT; systemd gives 3.",
)
def web(port: int | None, descriptor: int | None) -> None:
    """Serve the ingress, the APIs, health and metrics."""
    from relay.web import serve  # noqa: PLC0415  each process loads only what it runs

    if port is not None and descriptor is not None:
        raise click.UsageError("give --port or --fd, not both")
    _leave_no_core_dump()
    serve(Settings.from_environ(), port=port, descriptor=descriptor)


@click.command()
@click.option(
    "--lanes",
    default=",".join(queues.LANES),
    show_default=True,
    help="Which work this process does; several processes may share a lane.",
)
def worker(lanes: str) -> None:
    """Deliver, charge and record until SIGTERM, which finishes what is in flight."""
    from workers.app import run  # noqa: PLC0415  each process loads only what it runs

    chosen = tuple(lane.strip() for lane in lanes.split(",") if lane.strip())
    unknown = sorted(set(chosen) - set(queues.LANES))
    if unknown or not chosen:
        raise click.BadParameter(f"choose from {', '.join(queues.LANES)}", param_hint="--lanes")
    _leave_no_core_dump()
    run(Settings.from_environ(), chosen)


@click.command()
def beat() -> None:
    """Ring the workers and upkeep now and then. Run one of it."""
    from workers.beat import run  # noqa: PLC0415  each process loads only what it runs

    _leave_no_core_dump()
    run(Settings.from_environ())


@click.command()
def migrate() -> None:
    """Bring the database's schema up to date. Safe to repeat."""
    from relay.store.migrating import head_revision  # noqa: PLC0415  Alembic is slow to load
    from relay.store.migrating import migrate as run  # noqa: PLC0415

    run(Settings.from_environ())
    click.echo(f"the database is at revision {head_revision()}")


def _leave_no_core_dump() -> None:
    """A core dump would be a copy of the memory, content and keys included; children inherit the limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
