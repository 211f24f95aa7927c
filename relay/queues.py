"""Names of lanes, tasks and queues, and the Celery factory. No tasks live here.

A lane is a kind of work in the outbox. A task is only a bell: it carries no arguments, because kombu copies the
first 1,024 characters of every argument in the clear into message headers, and because a lost bell must cost at
most one tick.
"""

from __future__ import annotations

import ssl
from typing import Final

from celery import Celery
from kombu.entity import Exchange, Queue

from relay.settings import Settings, broker_url

RELAY: Final = "relay"
BILLING: Final = "billing"
RECORD: Final = "record"
RECORDINGS: Final = "recordings"
UPKEEP: Final = "upkeep"
# In front of every key that Celery keeps in Redis.
KEY_PREFIX: Final = "sw:celery:"
LANES: Final = (RELAY, BILLING, RECORD, RECORDINGS)
# Those whose units are in the outbox, where each must be accounted for.
OUTBOX_LANES: Final = (RELAY, BILLING, RECORDINGS)

KICK: Final = "relay.kick"
CHARGE: Final = "billing.charge"
RECORD_TASK: Final = "relay.record"
MEASURE: Final = "recordings.measure"
# A bell that nobody heard for so long is stale: the workers have looked by themselves since.
BELL_SECONDS: Final = 60
BELLS: Final = {RELAY: KICK, BILLING: CHARGE, RECORD: RECORD_TASK, RECORDINGS: MEASURE}

PARTITIONS: Final = "upkeep.partitions"
RETENTION: Final = "upkeep.retention"
MIRROR: Final = "upkeep.mirror"
REWRITE: Final = "upkeep.rewrite"
FORGET: Final = "upkeep.forget"
LOST: Final = "upkeep.lost"
AGENTS: Final = "upkeep.agents"
WEBHOOKS: Final = "upkeep.webhooks"
EXPIRY: Final = "upkeep.expiry"
CONVERSATIONS: Final = "upkeep.conversations"
ABANDONED: Final = "upkeep.abandoned"
ENDPOINTS: Final = "upkeep.endpoints"
CLOSING: Final = "upkeep.closing"
RECONCILIATION: Final = "upkeep.reconciliation"
EXPORTS: Final = "upkeep.exports"
UNRATED: Final = "upkeep.unrated"
CHECK: Final = "upkeep.check"
NOTICES: Final = "upkeep.notices"


def celery_app(settings: Settings) -> Celery:
    """A Celery application on the same Redis, with nothing stored and nothing retried: the outbox does both."""
    app = Celery("switchhook", broker=broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=UPKEEP,
        task_routes={
            KICK: {"queue": RELAY},
            CHARGE: {"queue": BILLING},
            RECORD_TASK: {"queue": RECORD},
            MEASURE: {"queue": RECORDINGS},
            "upkeep.*": {"queue": UPKEEP},
        },
        task_queues=[_queue(name) for name in (*LANES, UPKEEP)],
        task_create_missing_queues=False,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        # Its mailbox would be declared at every connect: see _queue.
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Redis refuses commands while it is full, cannot write its disk or is a replica: that passes, like its absence.
        broker_channel_error_retry=True,
        # A ring that cannot be placed quickly is dropped: the tick replaces it within a second.
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": KEY_PREFIX,
        },
        task_publish_retry=False,
        enable_utc=True,
        timezone="UTC",
    )
    if settings.redis_url.startswith("rediss://"):
        verify = ssl.CERT_REQUIRED if settings.redis_tls_verify == "required" else ssl.CERT_NONE
        app.conf.broker_use_ssl = {"ssl_cert_reqs": verify}
    return app


def _queue(name: str) -> Queue:
    """A queue whose messages are not kept until they are acknowledged; `workers.bells` says why.

    Nor is it declared: bells go to it by its name. A declaration is a write that Redis refuses at maxmemory, and a
    worker that started then, to drain it, would end.
    """
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name, no_ack=True, no_declare=True)  # type: ignore[no-untyped-call]
