"""Commands about what was charged: to look at it, to correct it, to close it."""

from __future__ import annotations

import click

from relay.cli.billing import (
    budgets,
    checking,
    closing,
    export,
    recharging,
    reconciliation,
    rerating,
    statements,
    unrated,
    usage,
)


@click.group()
def billing() -> None:
    """Billing: what calls cost, and what becomes of it."""


billing.add_command(recharging.recharge)
billing.add_command(export.export)
billing.add_command(budgets.budget)
billing.add_command(rerating.rerate)
billing.add_command(unrated.unrated)
billing.add_command(unrated.rate_unrated)
billing.add_command(checking.check)
billing.add_command(usage.usage)
billing.add_command(reconciliation.reconcile)
billing.add_command(reconciliation.differences)
billing.add_command(statements.list_statements)
billing.add_command(statements.show_statement)
billing.add_command(closing.close)
billing.add_command(closing.credit_note)
billing.add_command(closing.verify)
