"""The command that shreds what is kept of a session."""

from __future__ import annotations

import click
import msgspec

from relay.cli.connecting import connected
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, show
from relay.connections import redis_client
from relay.erasure import erase as erase_session
from relay.outbox import Outbox
from relay.settings import Settings


@click.command()
@click.argument("session_id", metavar="SESSION", type=ROW_NUMBER)
@click.option("--account", "account_id", metavar="ID", required=True, help="Whose session it is.")
@json_option
def erase(*, session_id: int, account_id: str, as_json: bool) -> None:
    """Shred the content of a SESSION now.

    Whatever waits for it ends as dead with the code erased; an attempt that is under way is the last one. The charge
    and the records stay: they hold nothing that was said.
    """
    settings = Settings.from_environ()
    with connected(settings) as database, redis_client(settings) as client:
        done = erase_session(
            database, Outbox(client), client, account_id=account_id, session_id=session_id, actor="cli"
        )
    title = "Erased. Events whose content was shredded, deliveries that ended for it, attempts under way:"
    show(msgspec.to_builtins(done), as_json=as_json, title=title)
