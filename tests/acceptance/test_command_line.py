"""The commands: their help, the names in their JSON, and plain errors that say what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import pytest
from click.testing import CliRunner

from relay.cli import main
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.processes import switchhook
from tests.receiver import Receiver
from tests.stack import Stack


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command under a group with the words that call it."""
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def made(stack: Stack, *arguments: str) -> Any:
    """What a command prints with --json: one line, nothing else."""
    done = switchhook(*arguments, "--json", env=stack.env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    [line] = done.stdout.splitlines()
    return json.loads(line)


def refused(env: Mapping[str, str], *arguments: str) -> str:
    """What a command that must fail says: a line or two, and no traceback."""
    done = switchhook(*arguments, env=env)
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) <= 5
    return done.stderr


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(words, command, id=" ".join(words)) for words, command in commands(main)]
)
def test_every_command_explains_itself(words: tuple[str, ...], command: click.Command) -> None:
    """--help says what a command does and what each of its options means."""
    shown = CliRunner().invoke(main, [*words, "--help"])

    assert shown.exit_code == 0
    assert command.help
    undocumented = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help and not isinstance(option.type, click.Choice)
    ]
    assert undocumented == []


def test_prints_the_documented_names_as_json(stack: Stack, receiver: Receiver) -> None:
    """What the commands print is enough to set an account up by script and to see its call through."""
    account = made(stack, "account", "create", "--name", "Acme")
    owner = ("--account", account["id"])
    source = made(stack, "source", "create", *owner, "--provider", "retell", "--secret", "key_1")
    endpoint = made(stack, "endpoint", "create", *owner, "--url", receiver.url, "--event", "retell.*")
    template = made(
        stack, "template", "create", *owner, "--name", "Intake", "--type", "interview", "--system-prompt", "Ask.",
        "--client-webhook-url", receiver.url,
    )  # fmt: skip
    card = made(stack, "rate-card", "create", *owner, "--per-minute", "0.10")
    body = retell_event("call_ended", "call_1", seconds=60)
    answer = stack.post(source["url"], body, retell_headers(body, "key_1"))
    stack.await_settled(stack.customers.known(account["id"]))

    assert account.keys() == {"id", "name", "apiKey"}
    assert source.keys() == {"id", "url", "provider"}
    assert endpoint.keys() == {"id", "url", "webhookSecret", "signingSecret"}
    assert template.keys() == {"id", "webhookSecret", "signingSecret", "endpointId"}
    assert card.keys() == {"id", "perMinute", "currency", "card", "effectiveFrom"}
    assert answer.status_code == 200
    [delivery], [session], [charge] = (made(stack, name, *owner) for name in ("deliveries", "sessions", "charges"))
    assert (delivery["eventId"], delivery["endpointId"]) == (answer.json()["id"], endpoint["id"])
    assert (delivery["status"], delivery["type"], delivery["attempts"]) == ("delivered", "retell.call_ended", 1)
    assert (session["conversationId"], session["cost"], session["currency"]) == ("call_1", "0.100000", "USD")
    assert (charge["conversationId"], charge["amount"], charge["billedSeconds"]) == ("call_1", "0.100000", 60)


def test_prints_tables_for_people(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """Without --json the same things come as aligned columns."""
    source = customer.source("retell", relay_url=receiver.url)
    body = retell_event("call_ended", "call_2", seconds=60)
    event_id = stack.post(source.url, body, retell_headers(body, source.secret)).json()["id"]
    stack.await_settled(customer)

    shown = {name: switchhook(name, "--account", customer.id, env=stack.env).stdout for name in
             ("deliveries", "sessions", "charges")}  # fmt: skip

    assert event_id in shown["deliveries"]
    assert all("call_2" in shown[name] and "0.100000 USD" in shown[name] for name in ("sessions", "charges"))
    assert all(text.splitlines()[0].isupper() for text in shown.values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("source", "create", "--account", "acc_nobody", "--provider", "retell", "--secret", "k"), "account"),
        (("source", "create", "--account", "{id}", "--provider", "nobody", "--secret", "k"), "elevenlabs, retell"),
        (("endpoint", "create", "--account", "{id}", "--url", "ftp://example.com/"), "url"),
        (("endpoint", "create", "--account", "{id}", "--url", "http://10.0.0.1/"), "url"),
        (("endpoint", "create", "--account", "{id}", "--url", "http://user:pass@127.0.0.1/"), "url"),
        (("endpoint", "create", "--account", "{id}", "--url", "{url}", "--header", "Host:x"), "headers"),
        (("endpoint", "create", "--account", "{id}", "--url", "{url}", "--signing-secret", "abc"), "signingSecret"),
        (("rate-card", "create", "--account", "acc_nobody", "--per-minute", "0.10"), "account"),
        (("rate-card", "create", "--account", "{id}", "--per-minute", "cheap"), "minute"),
        (("rate-card", "create", "--account", "{id}", "--per-minute=-0.10"), "minute"),
        (("rate-card", "create", "--account", "{id}", "--per-minute", "0.10", "--card", "0/1"), "increment"),
        (("rate-card", "create", "--account", "{id}", "--per-minute", "0.10", "--currency", "EUR"), "currency"),
        (("worker", "--lanes", "nothing"), "relay, billing, record, recordings"),
        (("account", "create"), "--name"),
    ],
)
def test_refuses_in_plain_words(
    stack: Stack, customer: Customer, receiver: Receiver, arguments: tuple[str, ...], told: str
) -> None:
    """What is wrong is named, and no secret or URL that was given is shown again."""
    given = [word.format(id=customer.id, url=receiver.url) for word in arguments]

    said = refused(stack.env, *given)

    assert told.lower() in said.lower()
    assert "pass@" not in said


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "SWITCHHOOK_KEYS"])
def test_every_process_refuses_to_start_without_a_setting_that_it_needs(stack: Stack, name: str) -> None:
    """It ends at once and names the variable; nothing is assumed."""
    env = {key: value for key, value in stack.env.items() if key != name}
    processes = ("web", "worker", "beat", "migrate", "deliveries")
    with ThreadPoolExecutor(len(processes)) as pool:
        said = list(pool.map(lambda process: refused(env, process), processes))

    assert [name in text for text in said] == [True] * len(processes)


def test_web_refuses_a_port_where_another_web_listens(stack: Stack) -> None:
    """The kernel would share the port between both, and half of the webhooks would go to the wrong one."""
    assert "PORT" in refused(stack.env, "web")


def test_web_refuses_a_port_that_anything_listens_on(stack: Stack) -> None:
    """The option names the port, the refusal as well."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        assert f"PORT {port} is taken" in refused(stack.env, "web", "--port", port)


def test_says_that_a_database_has_no_tables_yet(stack: Stack, empty_database_url: str) -> None:
    """The command that makes them is named."""
    assert "switchhook migrate" in refused({**stack.env, "DATABASE_URL": empty_database_url}, "deliveries")


def test_says_that_postgres_cannot_be_reached(stack: Stack) -> None:
    """Without the URL, which holds a password."""
    url = "postgresql://user:hunter2@127.0.0.1:1/none"

    said = refused({**stack.env, "DATABASE_URL": url}, "deliveries")

    assert "Postgres" in said
    assert "hunter2" not in said
