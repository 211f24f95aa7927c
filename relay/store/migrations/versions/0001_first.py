"""The first schema. Written as SQL, because a migration must say tomorrow what it said today."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0001"
down_revision: Final = None

CONFIGURATION: Final = """
CREATE SEQUENCE session_ids AS bigint;
CREATE SEQUENCE template_ids AS bigint;

CREATE TABLE accounts (
    id text PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    currency text CHECK (currency ~ '^[A-Z]{3}$'),
    quota_bytes bigint CHECK (quota_bytes > 0),
    config_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    prefix text NOT NULL,
    sha256 bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX api_keys_account ON api_keys (account_id);

-- References between configuration rows carry the account: rows of two accounts cannot be tied together.
CREATE TABLE sources (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    provider text NOT NULL,
    sealed_secrets bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    UNIQUE (account_id, id)
);

CREATE TABLE templates (
    id bigint PRIMARY KEY DEFAULT nextval('template_ids'),
    account_id text NOT NULL REFERENCES accounts,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    type text NOT NULL CHECK (type IN ('interview', 'conversation')),
    config jsonb NOT NULL,
    agent_id varchar(256),
    provider text NOT NULL DEFAULT 'elevenlabs',
    endpoint_id text,
    sealed_secret bytea NOT NULL,
    content_retention_hours integer CHECK (content_retention_hours >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (account_id, id)
);

CREATE TABLE endpoints (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    sealed_config bytea NOT NULL,
    filters text[] NOT NULL DEFAULT '{*}' CHECK (cardinality(filters) > 0),
    signing text NOT NULL DEFAULT 'standard' CHECK (signing IN ('standard', 'provider')),
    deadline_seconds integer NOT NULL DEFAULT 15 CHECK (deadline_seconds BETWEEN 1 AND 20),
    retention_hours integer CHECK (retention_hours >= 0),
    template_id bigint,
    source_id text,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled', 'gone')),
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, source_id) REFERENCES sources (account_id, id),
    CHECK (template_id IS NULL OR source_id IS NULL)
);
-- A template and its endpoint are made together, whichever comes first.
ALTER TABLE templates ADD FOREIGN KEY (account_id, endpoint_id) REFERENCES endpoints (account_id, id)
    DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE rate_cards (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    per_minute numeric(18,6) NOT NULL CHECK (per_minute >= 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    initial_seconds integer NOT NULL DEFAULT 1 CHECK (initial_seconds >= 1),
    increment_seconds integer NOT NULL DEFAULT 1 CHECK (increment_seconds >= 1),
    connect_fee numeric(18,6) NOT NULL DEFAULT 0 CHECK (connect_fee >= 0),
    free_seconds integer NOT NULL DEFAULT 0 CHECK (free_seconds >= 0),
    min_charge numeric(18,6) CHECK (min_charge >= 0),
    max_charge numeric(18,6) CHECK (max_charge >= 0),
    decimals smallint NOT NULL DEFAULT 6 CHECK (decimals BETWEEN 0 AND 6),
    rounding text NOT NULL DEFAULT 'half_up',
    effective_from timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (min_charge <= max_charge)
);
CREATE UNIQUE INDEX rate_cards_from ON rate_cards (account_id, effective_from);
CREATE UNIQUE INDEX rate_cards_first ON rate_cards (account_id) WHERE effective_from IS NULL;
"""

# What happened refers to accounts, templates and endpoints by id alone. Records and bills catch up from Redis after
# an outage or a restore, and must not wait for a row of configuration that the restore has lost.
RECORDS: Final = """
CREATE TABLE sessions (
    account_id text NOT NULL,
    id bigint NOT NULL,
    provider varchar(256) NOT NULL,
    conversation_id varchar(256),
    template_id bigint,
    agent_id varchar(256),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'active', 'completed', 'failed', 'abandoned')),
    started_at timestamptz,
    ended_at timestamptz,
    duration_seconds numeric,
    billed_seconds integer,
    currency text,
    cost numeric(18,6),
    unrated_reason text CHECK (length(unrated_reason) <= 256),
    rate_card_id text,
    charge_sequence integer NOT NULL DEFAULT 0,
    terminal_rank smallint,
    terminal_ms bigint,
    provider_cost_usd numeric,
    provider_credits numeric,
    livemode boolean NOT NULL DEFAULT true,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    -- The most selective column first: billing looks hundreds of keys up in one statement, and must find them by these
    -- indexes whatever the planner believes about accounts (ADR 0009).
    PRIMARY KEY (id, account_id),
    UNIQUE (conversation_id, provider, account_id),
    CHECK (cost IS NULL OR unrated_reason IS NULL)
);
CREATE INDEX sessions_created ON sessions (account_id, created_at);
CREATE INDEX sessions_template ON sessions (account_id, template_id, created_at);
CREATE INDEX sessions_open ON sessions (created_at) WHERE status IN ('pending', 'active');

CREATE TABLE events (
    id text PRIMARY KEY,
    day date NOT NULL,
    account_id text NOT NULL,
    provider varchar(256) NOT NULL,
    kind varchar(256) NOT NULL,
    event_class text NOT NULL CHECK (event_class IN ('event', 'complete')),
    conversation_id varchar(256) NOT NULL,
    session_id bigint NOT NULL,
    source_id text,
    template_id bigint,
    livemode boolean NOT NULL DEFAULT true,
    size_bytes integer NOT NULL CHECK (size_bytes >= 0),
    accepted_at timestamptz NOT NULL
);
CREATE INDEX events_account ON events (account_id, accepted_at);
CREATE INDEX events_session ON events (account_id, session_id);
CREATE INDEX events_day ON events (day);

-- The check refuses a stream id as Redis writes it: as text, '5-9' would be newer than '5-10'.
CREATE TABLE deliveries (
    event_id text NOT NULL,
    endpoint_id text NOT NULL,
    day date NOT NULL,
    account_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'delivered', 'dead', 'content_lost')),
    code varchar(256),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_stream_id text COLLATE "C" NOT NULL CHECK (last_stream_id ~ '^[0-9]{15}-[0-9]{20}$'),
    accepted_at timestamptz NOT NULL,
    settled_at timestamptz,
    PRIMARY KEY (event_id, endpoint_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX deliveries_account ON deliveries (account_id, accepted_at);
CREATE INDEX deliveries_account_day ON deliveries (account_id, day, status);
CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, accepted_at);
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;

CREATE TABLE attempts (
    event_id text NOT NULL,
    endpoint_id text NOT NULL,
    number integer NOT NULL CHECK (number >= 1),
    day date NOT NULL,
    at timestamptz NOT NULL,
    http_status integer,
    code varchar(256),
    detail varchar(256),
    duration_ms integer,
    response_bytes bigint,
    PRIMARY KEY (event_id, endpoint_id, number, day)
) PARTITION BY RANGE (day);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

CREATE TABLE ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    provider varchar(256) NOT NULL,
    conversation_id varchar(256) NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'reversal', 'adjustment')),
    sequence integer NOT NULL DEFAULT 0,
    session_id bigint,
    template_id bigint,
    rate_card_id text,
    started_at timestamptz NOT NULL,
    duration_seconds numeric,
    billed_seconds integer NOT NULL DEFAULT 0,
    unit_price numeric(18,6) NOT NULL DEFAULT 0,
    exact numeric NOT NULL,
    amount numeric(18,6) NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    steps text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, provider, conversation_id, kind, sequence)
);
CREATE INDEX ledger_started ON ledger (account_id, started_at);
CREATE INDEX ledger_session ON ledger (account_id, session_id);
CREATE INDEX ledger_conversation ON ledger (conversation_id);
"""

# For each statement, not each row: even a change that touches no row is a mistake worth hearing of.
IMMUTABLE: Final = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_TABLE_NAME || ' only takes new rows';
END $$;
CREATE TRIGGER ledger_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rate_cards_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON rate_cards
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Make everything."""
    for script in (CONFIGURATION, RECORDS, IMMUTABLE):
        op.get_bind().exec_driver_sql(script)
