"""The relay lane's host: makes a courier and runs it in a thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from relay.connections import redis_client
from relay.delivery import USER_AGENT
from relay.delivery.courier import DRAIN_SECONDS, Courier
from relay.delivery.dispatch import Dispatcher
from relay.delivery.transport import Transport
from relay.directory import Directory
from relay.outbox import LEASE_MS, Outbox
from relay.outbox.ring import unmute
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.telemetry import logs


class DeliveryThread:
    """The courier of this process."""

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        directory: Directory,
        *,
        on_settled: Callable[[], None],
        on_more: Callable[[], None],
    ) -> None:
        client = redis_client(settings)
        self._courier = Courier(
            Outbox(client),
            directory,
            Dispatcher(directory, ring, retention=settings.retention),
            Transport(allow=settings.egress_allow, ca_file=settings.ca_file, user_agent=USER_AGENT),
            lease_seconds=LEASE_MS / 1000,
            on_settled=on_settled,
            on_more=on_more,
            on_idle=partial(unmute, client, RELAY),
        )
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look into the outbox now."""
        self._courier.wake()

    def stop(self) -> None:
        """Claim nothing more."""
        self._courier.stop()

    def join(self) -> None:
        """Wait until what is in flight was settled."""
        if self._thread.is_alive():
            self._thread.join(DRAIN_SECONDS + 4)

    def _run(self) -> None:
        try:
            self._courier.run()
        except BaseException as error:
            # A worker without a courier would look alive and deliver nothing: better that the platform restarts it.
            logs.failure("courier_failed", error)
            os.kill(os.getpid(), signal.SIGTERM)
