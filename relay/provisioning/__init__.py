"""Setting up accounts: checked, stored in Postgres, mirrored to Redis, audited. The CLI and the API both come here.

What is wrong is refused with a BadRequest, Conflict or NotFound that names the field.
"""

from __future__ import annotations

from relay.provisioning.accounts import AccountChanges, NewAccount
from relay.provisioning.budgets import BudgetChanges
from relay.provisioning.conversations import ConversationChanges
from relay.provisioning.endpoints import EndpointChanges
from relay.provisioning.exports import ExportChanges
from relay.provisioning.grants import GrantChanges
from relay.provisioning.keys import KeyChanges
from relay.provisioning.provider_keys import ProviderKeyChanges
from relay.provisioning.rate_cards import RateCardChanges
from relay.provisioning.sources import SourceChanges
from relay.provisioning.templates import TemplateChanges

__all__ = ["NewAccount", "Provisioning"]


class Provisioning(
    AccountChanges,
    KeyChanges,
    SourceChanges,
    EndpointChanges,
    TemplateChanges,
    ConversationChanges,
    RateCardChanges,
    BudgetChanges,
    ProviderKeyChanges,
    GrantChanges,
    ExportChanges,
):
    """Makes and changes what the hot path is configured by."""
