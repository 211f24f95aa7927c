"""What commands change accounts with, by the settings of the environment.

Apart from `connecting`: provisioning reaches content, and a listing, which connects as well, must not by any path.
"""

from __future__ import annotations

from relay.provisioning import Provisioning
from relay.settings import Settings


def provisioning() -> Provisioning:
    """With connections of its own. Raises SettingsError if the environment makes no sense."""
    return Provisioning.connect(Settings.from_environ())
