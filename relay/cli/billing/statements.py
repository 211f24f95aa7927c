"""The commands that show statements."""

from __future__ import annotations

from datetime import UTC, date, datetime

import click
import msgspec
from sqlalchemy import Connection

from billing import statements
from billing.statements import Statement
from billing.statements import table as statement_table
from relay.api import statement_page
from relay.cli.billing import statement_rows
from relay.cli.billing.months import MONTH
from relay.cli.connecting import reading
from relay.cli.listing import account_filter
from relay.cli.output import json_option, table
from relay.store import accounts, rate_cards


@click.command("statements")
@account_filter
@click.option("--month", type=MONTH, help="Only this month.")
@click.option("--limit", type=click.IntRange(1, 1200), default=12, show_default=True, help="Months of each account.")
@json_option
def list_statements(*, account_id: str | None, month: date | None, limit: int, as_json: bool) -> None:
    """Statements, the newest month of each account first: open, draft (72 hours), closed.

    What is not closed is shown as it would be now.
    """
    now = datetime.now(UTC)
    found: list[Statement] = []
    with reading() as connection:
        for one in [account_id] if account_id else [account.id for account in accounts.every(connection)]:
            if month is None:
                found += statements.listed(connection, one, now=now, limit=limit)
            else:
                found.append(statements.of_month(connection, one, month, now=now))
    if as_json:
        click.echo(msgspec.json.encode([statement_table.summary(one) for one in found]).decode())
        return
    rows = [
        (f"{one.month:%Y-%m}", one.account_id, one.state.value, one.number, f"{one.body['total']} {one.currency or ''}")
        for one in found
    ]
    table(rows, ("MONTH", "ACCOUNT", "STATE", "NUMBER", "TOTAL, NET OF TAX"), empty="no accounts yet")


@click.command("statement")
@click.argument("number", required=False)
@click.option("--account", "account_id", metavar="ID", help="Whose, with --month, in place of a number.")
@click.option("--month", type=MONTH, help="Which month of the account.")
@click.option("--csv", "form", flag_value="csv", help="Print it as CSV with FOCUS columns.")
@click.option("--html", "form", flag_value="html", help="Print it as a page to print.")
@json_option
def show_statement(
    *, number: str | None, account_id: str | None, month: date | None, form: str | None, as_json: bool
) -> None:
    """One statement: by its number (S-2026-000001), or by --account and --month, also before it is closed."""
    if as_json and form:
        raise click.UsageError("give one of --json, --csv and --html")
    with reading() as connection:
        found = _found(connection, number, account_id, month)
        cards = rate_cards.of_account(connection, account_id=found.account_id)
    if form == "csv":
        click.echo(statement_table.table(found), nl=False)
    elif form == "html":
        click.echo(statement_page.written(found, cards)[0])
    elif as_json:
        click.echo(msgspec.json.encode(statement_table.shown(found)).decode())
    else:
        _show(found)


def _found(connection: Connection, number: str | None, account_id: str | None, month: date | None) -> Statement:
    if number is not None and account_id is None and month is None:
        return statements.numbered(connection, number)
    if number is not None or account_id is None or month is None:
        raise click.UsageError("give a number, or --account and --month")
    return statements.of_month(connection, account_id, month, now=datetime.now(UTC))


def _show(found: Statement) -> None:
    body = found.body
    title = f"Statement {found.number}" if found.number else f"Statement of {found.month:%Y-%m}, {found.state.value}"
    click.echo(f"{title}: {body['accountName']}, {body['month']}, {body['sessions']} calls")
    if statement_table.is_provisional(found):
        click.echo("Provisional: what is here may change until the month is closed.")
    table(statement_rows.rows(body), statement_rows.HEADINGS, empty="")
    for one in body["unrated"]:
        click.echo(f"Not charged: {one['sessions']} call(s), {one['reason']}")
    if found.sha256:
        click.echo(f"SHA-256 {found.sha256}")
