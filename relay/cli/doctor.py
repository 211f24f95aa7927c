"""The command that looks for what is wrong."""

from __future__ import annotations

import click
import msgspec

from relay.cli.output import json_option
from relay.doctor import Finding, Level, examine

_LEVEL_CHARS = max(len(level) for level in Level)


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Look at settings, Redis, Postgres, clocks, keys and the outbox, and say what to do.

    Exits with 1 if anything is FAIL: then events are refused, lost or stuck, or will be.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.level is Level.FAIL for finding in findings)
    if as_json:
        click.echo(msgspec.json.encode({"isHealthy": not failed, "findings": findings}).decode())
    else:
        warned = sum(finding.level is Level.WARN for finding in findings)
        click.echo(f"{len(findings)} checks, {warned} to look at, {failed} failed")
    if failed:
        raise SystemExit(1)


def _print(finding: Finding) -> None:
    click.echo(f"{finding.level.value.ljust(_LEVEL_CHARS)}  {finding.check}: {finding.found}")
    if finding.advice:
        click.echo(f"{' ' * _LEVEL_CHARS}  -> {finding.advice}")
