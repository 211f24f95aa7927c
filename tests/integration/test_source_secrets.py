"""A source whose provider names its secret only after it has been given the source's URL, as ElevenLabs does."""

from __future__ import annotations

import pytest
import redis
from click.testing import CliRunner, Result

from relay.cli import main
from relay.directory import Directory, Mirror
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import workspace_webhooks
from relay.store.database import Database

pytestmark = pytest.mark.usefixtures("commands_provision")


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.keys)


def set_secrets(account_id: str, source_id: str, *secrets: str) -> Result:
    given = [part for secret in secrets for part in ("--secret", secret)]
    return CliRunner().invoke(main, ["source", "set-secrets", "--account", account_id, *given, source_id])


def test_replaces_the_secrets_of_a_source(
    provisioning: Provisioning, database: Database, ring: KeyRing, redis_client: redis.Redis
) -> None:
    """What `source set-secrets` is given is what the ingress verifies by from then on."""
    account = provisioning.create_account(name="Acme").account
    source, _ = provisioning.create_source(account_id=account.id, provider="elevenlabs", secrets=["placeholder"])
    outcome = set_secrets(account.id, source.id, "new", "old")
    assert outcome.output == f"{source.id} has 2 secret(s)\n"
    _, config = Directory(Mirror(redis_client, ring), ring, database).source(source.id)
    assert config.secrets == ("new", "old")


def test_refuses_the_source_of_another_account(provisioning: Provisioning) -> None:
    """Nobody sets the secrets of a source that is not theirs, nor is told whose it is."""
    mine, theirs = (provisioning.create_account(name=name).account for name in ("mine", "theirs"))
    source, _ = provisioning.create_source(account_id=theirs.id, provider="elevenlabs", secrets=["theirs"])
    outcome = set_secrets(mine.id, source.id, "new")
    assert outcome.exit_code == 1
    assert outcome.output == "Error: this account has no source by this id [not_found]\n"


def test_refuses_an_unprintable_secret(provisioning: Provisioning) -> None:
    """A secret is checked as when the source is made, and never quoted."""
    account = provisioning.create_account(name="Acme").account
    source, _ = provisioning.create_source(account_id=account.id, provider="retell", secrets=["right"])
    outcome = set_secrets(account.id, source.id, "wro\nng")
    assert outcome.output == "Error: secret must be 1 to 255 printable characters (secret) [validation_error]\n"


def test_refuses_a_source_that_we_look_after(provisioning: Provisioning, database: Database, ring: KeyRing) -> None:
    """Its provider made its secret, and would go on signing with that."""
    account = provisioning.create_account(name="Acme").account
    with database.begin() as connection:
        made, _ = workspace_webhooks.reserve(
            connection, ring, account_id=account.id, provider="elevenlabs", name="Workspace"
        )
    outcome = set_secrets(account.id, made.source_id, "new")
    assert outcome.exit_code == 1
    assert outcome.output.startswith("Error: Switchhook made this source")
