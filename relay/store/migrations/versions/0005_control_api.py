"""What the control API keeps: keys with names and rights, an audit trail, and voice agents at the providers."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

KEYS: Final = """
ALTER TABLE api_keys
    ADD name text CHECK (length(name) BETWEEN 1 AND 255),
    ADD can_write boolean NOT NULL DEFAULT true,
    ADD expires_at timestamptz,
    ADD last_used_at timestamptz;
-- What upkeep looks for every minute is a few rows among many.
CREATE INDEX api_keys_expiry ON api_keys (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;

-- An account's own key at a provider, in place of ours.
CREATE TABLE provider_keys (
    account_id text NOT NULL REFERENCES accounts,
    provider text NOT NULL,
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, provider)
);

-- What an account may use with our key that was not made for it here: an agent, or a project of Agora.
CREATE TABLE provider_grants (
    account_id text NOT NULL REFERENCES accounts,
    provider text NOT NULL,
    object_id varchar(256) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, provider, object_id)
);
CREATE UNIQUE INDEX provider_grants_agent ON provider_grants (provider, object_id) WHERE provider <> 'agora';
"""

# By ids alone, without references: what was done stays known after what it was done to has gone.
AUDIT: Final = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    object_id text NOT NULL,
    before_sha256 bytea CHECK (length(before_sha256) = 32),
    after_sha256 bytea CHECK (length(after_sha256) = 32)
);
CREATE INDEX audit_account ON audit (account_id, id);
CREATE TRIGGER audit_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

AGENTS: Final = """
-- Hidden templates stand behind conversations that were created without one.
ALTER TABLE templates
    ADD hidden boolean NOT NULL DEFAULT false,
    -- The only session of a hidden one.
    ADD session_id bigint UNIQUE,
    ADD rate_card_id text;
-- There are far more of them than of all others, which are read with each change of their account.
CREATE INDEX templates_seen ON templates (account_id, id) WHERE NOT hidden;
CREATE INDEX templates_of_conversations ON templates (deleted_at) WHERE hidden;
CREATE INDEX templates_of_conversations_agent ON templates (agent_id) WHERE hidden;
CREATE INDEX templates_hidden ON templates (id) WHERE hidden AND deleted_at IS NULL;

-- What a provider should have of a template. `synced` catches up with `wanted`; `created_here` says whose agent it is.
CREATE TABLE voice_agents (
    account_id text NOT NULL,
    template_id bigint NOT NULL,
    provider text NOT NULL,
    agent_id varchar(256),
    -- An agent that we made and no longer want, because the customer brought another.
    leftover_id varchar(256),
    created_here boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'synced', 'failed', 'removing', 'removed')),
    wanted integer NOT NULL DEFAULT 1,
    synced integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- Until then one process is working on it.
    busy_until timestamptz,
    -- When something was asked for at the provider that may appear there without our knowing.
    asked_at timestamptz,
    code text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: made with our key; else the digest of the account's own one that made it, and that can delete it.
    made_with bytea CHECK (length(made_with) = 32),
    PRIMARY KEY (account_id, template_id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);
CREATE INDEX voice_agents_agent ON voice_agents (provider, agent_id);
CREATE INDEX voice_agents_leftover ON voice_agents (provider, leftover_id) WHERE leftover_id IS NOT NULL;
CREATE INDEX voice_agents_due ON voice_agents (next_attempt_at) WHERE status IN ('pending', 'failed', 'removing');

-- The webhook that a provider's workspace has for a source of ours.
CREATE TABLE workspace_webhooks (
    source_id text PRIMARY KEY REFERENCES sources,
    -- NULL until the provider has made it and the source has its secret.
    webhook_id varchar(256),
    -- Until then one process is making it.
    busy_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When to see whether it is still there and switched on.
    look_at timestamptz NOT NULL DEFAULT now()
);
"""

CARDS: Final = """
-- An offered card is not in force by itself: it is the price of the sessions of templates that choose it.
ALTER TABLE rate_cards ADD offered boolean NOT NULL DEFAULT false;
DROP INDEX rate_cards_from;
DROP INDEX rate_cards_first;
CREATE UNIQUE INDEX rate_cards_from ON rate_cards (account_id, effective_from) WHERE NOT offered;
CREATE UNIQUE INDEX rate_cards_first ON rate_cards (account_id) WHERE effective_from IS NULL AND NOT offered;
"""

SOURCES: Final = """
-- The events of a shared source belong to the account that their labels name; only an operator makes one.
ALTER TABLE sources
    ADD shared boolean NOT NULL DEFAULT false,
    -- Made by us for a webhook that we look after: its account cannot change it.
    ADD managed boolean NOT NULL DEFAULT false,
    ADD name text CHECK (length(name) BETWEEN 1 AND 255),
    ADD deleted_at timestamptz;
-- Until when the older signing secrets go on signing beside the newest.
ALTER TABLE endpoints ADD overlap_until timestamptz, ADD deleted_at timestamptz;
CREATE INDEX endpoints_overlap ON endpoints (overlap_until) WHERE overlap_until IS NOT NULL;
CREATE INDEX endpoints_disabled ON endpoints (account_id) WHERE state <> 'active' AND deleted_at IS NULL;
"""

SESSIONS: Final = """
ALTER TABLE sessions
    ADD failure_code varchar(256),
    ADD text_only boolean NOT NULL DEFAULT false,
    ADD deleted_at timestamptz,
    ADD turn_count integer,
    -- What the proof of the event was worth that the bill goes by; NULL is from before this was written down.
    ADD terminal_trust smallint,
    -- When its customer last had its content shredded: it is not fetched again from the provider.
    ADD content_erased_at timestamptz;
"""

AGORA: Final = """
-- Agents that joined Agora's channels. A name is taken while its agent is live and its session has not ended.
CREATE TABLE agora_agents (
    account_id text NOT NULL,
    session_id bigint NOT NULL,
    appid varchar(256) NOT NULL,
    name varchar(256) NOT NULL,
    channel varchar(256) NOT NULL,
    agent_id varchar(256),
    live boolean NOT NULL DEFAULT true,
    PRIMARY KEY (account_id, session_id),
    FOREIGN KEY (session_id, account_id) REFERENCES sessions ON DELETE CASCADE
);
CREATE UNIQUE INDEX agora_agents_name ON agora_agents (account_id, appid, name) WHERE live;
-- The agent first: an event without labels names nothing else.
CREATE UNIQUE INDEX agora_agents_agent ON agora_agents (agent_id, account_id);
"""


def upgrade() -> None:
    """Add it all."""
    for script in (KEYS, AUDIT, AGENTS, CARDS, SOURCES, SESSIONS, AGORA):
        op.get_bind().exec_driver_sql(script)
