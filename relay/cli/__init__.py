"""The `switchhook` command."""

from __future__ import annotations

import click

from relay.cli import (
    audit,
    billing,
    configuration,
    demonstration,
    doctor,
    endpoints,
    erase,
    grants,
    keys,
    listing,
    plan,
    price,
    rate_cards,
    replay,
    serving,
    top,
)
from relay.cli.problems import PlainErrors


@click.group(cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="switchhook", message="switchhook %(version)s")
def main() -> None:
    """Relay voice-AI webhooks to your customers, meter every call once, keep nothing that was said.

    Settings come from the environment (DATABASE_URL, REDIS_URL, SWITCHHOOK_KEYS, ...); see README.md.
    Start with 'switchhook demo', which needs none of them.
    """


for _command in (
    demonstration.demo,
    serving.web,
    serving.worker,
    serving.beat,
    serving.migrate,
    configuration.account,
    configuration.source,
    keys.key,
    grants.grant,
    endpoints.endpoint,
    configuration.template,
    rate_cards.rate_card,
    price.price,
    listing.deliveries,
    listing.sessions,
    listing.charges,
    billing.billing,
    audit.audit,
    plan.plan,
    doctor.doctor,
    top.top,
    replay.replay,
    erase.erase,
):
    main.add_command(_command)
