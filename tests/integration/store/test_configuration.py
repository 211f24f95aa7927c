"""Sources, endpoints and templates: kept sealed, changed in part, closed to other accounts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from relay.errors import NotFound
from relay.sealing import KeyRing, UnsealError
from relay.store import accounts, endpoints, sources, template_pages, templates
from relay.store.database import Database
from relay.store.templates import NewTemplate

# Each is unlike anything else in a row, in text and in the hex of bytea.
SECRETS = ("source-s3cret", "https://customer.example/t0ken-in-path", "header-s3cret", "webhook-s3cret")


def _new_template(connection: Connection, ring: KeyRing, account_id: str, url: str | None = SECRETS[1]) -> NewTemplate:
    return templates.create(
        connection,
        ring,
        account_id=account_id,
        name="Interview",
        type="interview",
        config={"systemPrompt": "Be kind."},
        client_webhook_url=url,
        webhook_secret=SECRETS[3],
    )


def test_no_row_can_be_read_for_a_secret(database: Database, ring: KeyRing, account_id: str) -> None:
    """Secrets, URLs and headers appear in a dump neither as text nor as bytes."""
    with database.begin() as connection:
        sources.create(connection, ring, account_id=account_id, provider="retell", secrets=[SECRETS[0]])
        made = _new_template(connection, ring, account_id)
        assert made.endpoint is not None
        headers = {"Authorization": SECRETS[2]}
        endpoints.update(connection, ring, account_id=account_id, endpoint_id=made.endpoint.id, headers=headers)
        dump = [
            row
            for table in ("sources", "endpoints", "templates", "accounts")
            for row in connection.execute(text(f"SELECT {table}::text FROM {table}")).scalars()
        ]

    assert len(dump) == 4
    for secret in (*SECRETS, *made.endpoint.signing_secrets):
        assert not any(secret in row or secret.encode().hex() in row for row in dump)


def test_printing_a_row_prints_no_secret(database: Database, ring: KeyRing, account_id: str) -> None:
    """What a log or a traceback may show of a row is its ids and states."""
    with database.begin() as connection:
        source = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=[SECRETS[0]])
        printed = repr((source, _new_template(connection, ring, account_id)))

    assert source.id in printed
    assert not any(secret in printed for secret in (*SECRETS, "whsec_", "Be kind."))


def test_a_sealed_value_opens_only_in_its_own_row(database: Database, ring: KeyRing, account_id: str) -> None:
    """Whoever may write to the database cannot move a secret to a row of theirs."""
    with database.begin() as connection:
        one = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=["one"])
        two = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=["two"])
        moved = text(
            "UPDATE sources SET sealed_secrets = (SELECT sealed_secrets FROM sources WHERE id = :one) WHERE id = :two"
        )
        connection.execute(moved, {"one": one.id, "two": two.id})

        with pytest.raises(UnsealError):
            sources.get(connection, ring, account_id=account_id, source_id=two.id)


def test_rows_of_another_account_are_not_found(database: Database, ring: KeyRing, account_id: str) -> None:
    """For every way to read or change one, with no effect."""
    with database.begin() as connection:
        source = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=["a"])
        template, endpoint = _new_template(connection, ring, account_id)
        other = accounts.create(connection, name="Other").id
        before = accounts.config(connection, ring, account_id)
    assert endpoint is not None
    target = {"account_id": other, "endpoint_id": endpoint.id}
    ways: list[Callable[[Connection], object]] = [
        lambda c: sources.get(c, ring, account_id=other, source_id=source.id),
        lambda c: sources.set_secrets(c, ring, account_id=other, source_id=source.id, secrets=["b"]),
        lambda c: sources.disable(c, ring, account_id=other, source_id=source.id),
        lambda c: endpoints.get(c, ring, **target),
        lambda c: endpoints.update(c, ring, account_id=other, endpoint_id=endpoint.id, url="https://evil.example"),
        lambda c: endpoints.rotate(c, ring, account_id=other, endpoint_id=endpoint.id),
        lambda c: endpoints.set_state(c, account_id=other, endpoint_id=endpoint.id, state="disabled"),
        lambda c: endpoints.create(c, ring, account_id=other, url="https://evil.example", template_id=template.id),
        lambda c: endpoints.create(c, ring, account_id=other, url="https://evil.example", source_id=source.id),
        lambda c: templates.get(c, ring, account_id=other, template_id=template.id),
        lambda c: templates.update(c, ring, account_id=other, template_id=template.id, name="Evil"),
        lambda c: templates.delete(c, account_id=other, template_id=template.id),
    ]
    for way in ways:
        with pytest.raises(NotFound), database.begin() as connection:
            way(connection)

    with database.begin() as connection:
        assert accounts.config(connection, ring, account_id) == before
        assert endpoints.of_account(connection, ring, account_id=other) == []


def test_a_source_that_is_enabled_again_is_as_it_was(database: Database, ring: KeyRing, account_id: str) -> None:
    """Disabling takes nothing away but the moment."""
    with database.begin() as connection:
        source = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=["a"])
        disabled = sources.disable(connection, ring, account_id=account_id, source_id=source.id)
        enabled = sources.enable(connection, ring, account_id=account_id, source_id=source.id)

        assert (disabled.disabled_at is None, enabled) == (False, source)
        assert sources.of_account(connection, ring, account_id=account_id) == [source]


def test_an_update_leaves_what_it_was_not_given(database: Database, ring: KeyRing, account_id: str) -> None:
    """None is a value of its own: it takes the retention back to the default."""
    with database.begin() as connection:
        made = endpoints.create(connection, ring, account_id=account_id, url="https://a.example/", retention_hours=5)
        moved = endpoints.update(
            connection, ring, account_id=account_id, endpoint_id=made.id, url="https://b.example/", filters=["retell.*"]
        )
        reset = endpoints.update(connection, ring, account_id=account_id, endpoint_id=made.id, retention_hours=None)

    assert (moved.url, moved.filters, moved.retention_hours) == ("https://b.example/", ("retell.*",), 5)
    assert moved.signing_secrets == made.signing_secrets
    assert (reset.url, reset.retention_hours) == ("https://b.example/", None)


def test_rotation_keeps_the_last_signing_secret_beside_the_new_one(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """Receivers may change over at their own time; what was rotated twice is no longer used."""
    with database.begin() as connection:
        made = endpoints.create(connection, ring, account_id=account_id, url="https://a.example/")
        once = endpoints.rotate(connection, ring, account_id=account_id, endpoint_id=made.id)
        twice = endpoints.rotate(connection, ring, account_id=account_id, endpoint_id=made.id)

    assert once.signing_secrets[1:] == made.signing_secrets
    assert twice.signing_secrets[1:] == once.signing_secrets[:1]
    assert len(set(twice.signing_secrets + made.signing_secrets)) == 3


def test_an_endpoint_that_is_active_again_was_never_disabled(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """The moment of disabling belongs to the state."""
    with database.begin() as connection:
        made = endpoints.create(connection, ring, account_id=account_id, url="https://a.example/")
        this = {"account_id": account_id, "endpoint_id": made.id}
        endpoints.set_state(connection, **this, state="gone")
        gone = endpoints.get(connection, ring, **this)
        endpoints.set_state(connection, **this, state="active")

        assert (gone.state, gone.disabled_at is None) == ("gone", False)
        assert endpoints.get(connection, ring, **this) == made


def test_a_template_comes_with_an_endpoint_that_has_its_secret(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """The secret that the customer chose goes out with each delivery; the signing secret is made."""
    with database.begin() as connection:
        template, endpoint = _new_template(connection, ring, account_id)
        assert endpoint is not None

        assert (template.endpoint_id, endpoint.template_id) == (endpoint.id, template.id)
        assert template.webhook_secret == endpoint.webhook_secret == SECRETS[3]
        assert template.client_webhook_url == endpoint.url == SECRETS[1]
        assert template.config == {"systemPrompt": "Be kind."}
        assert template_pages.page(connection, ring, account_id=account_id).rows == [template]


def test_a_template_without_url_has_a_secret_and_no_endpoint(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """Its first URL makes the endpoint, with the secret that the template had all along."""
    with database.begin() as connection:
        template, none = _new_template(connection, ring, account_id, url=None)
        updated, endpoint = templates.update(
            connection, ring, account_id=account_id, template_id=template.id, client_webhook_url="https://a.example/"
        )

    assert (template.endpoint_id, template.webhook_secret, none) == (None, SECRETS[3], None)
    assert endpoint is not None
    assert (updated.endpoint_id, endpoint.webhook_secret) == (endpoint.id, SECRETS[3])


def test_a_templates_update_reaches_its_endpoint(database: Database, ring: KeyRing, account_id: str) -> None:
    """URL and secret change in both, the endpoint's id and signing secret stay."""
    with database.begin() as connection:
        template, endpoint = _new_template(connection, ring, account_id)
        assert endpoint is not None
        updated, made = templates.update(
            connection,
            ring,
            account_id=account_id,
            template_id=template.id,
            client_webhook_url="https://b.example/",
            webhook_secret="another",
            name="Renamed",
        )
        after = endpoints.get(connection, ring, account_id=account_id, endpoint_id=endpoint.id)

    assert made is None
    assert (updated.name, updated.webhook_secret, updated.endpoint_id) == ("Renamed", "another", endpoint.id)
    assert (updated.type, updated.config) == (template.type, template.config)
    assert (after.url, after.webhook_secret) == ("https://b.example/", "another")
    assert after.signing_secrets == endpoint.signing_secrets


def test_a_template_may_give_up_its_url(database: Database, ring: KeyRing, account_id: str) -> None:
    """The endpoint stays active and bound, so that what waits is sent and nothing else goes there."""
    with database.begin() as connection:
        template, endpoint = _new_template(connection, ring, account_id)
        assert endpoint is not None
        updated, _ = templates.update(
            connection, ring, account_id=account_id, template_id=template.id, client_webhook_url=None
        )
        left = endpoints.get(connection, ring, account_id=account_id, endpoint_id=endpoint.id)

    assert (updated.endpoint_id, updated.client_webhook_url) == (None, None)
    assert (left.state, left.template_id) == ("active", template.id)


def test_a_deleted_template_is_not_found(database: Database, ring: KeyRing, account_id: str) -> None:
    """Neither read nor deleted a second time."""
    with database.begin() as connection:
        template, _ = _new_template(connection, ring, account_id)
        templates.delete(connection, account_id=account_id, template_id=template.id)
        assert template_pages.page(connection, ring, account_id=account_id).rows == []
        with pytest.raises(NotFound):
            templates.get(connection, ring, account_id=account_id, template_id=template.id)
        with pytest.raises(NotFound):
            templates.delete(connection, account_id=account_id, template_id=template.id)
