"""Billing that can be signed: lines, month prices, usage by quarter-hours, statements, budgets, exports, checks."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"

# In the order in which a charge of the version before takes them: it holds none of these while it waits for one that is
# taken here, so that nobody waits in a circle.
LOCKS: Final = "LOCK TABLE rate_cards, sessions, ledger"

CARDS: Final = """
-- A card is the account's, or overrides it for a template or a tag; what else it says is JSON that billing.rates reads.
ALTER TABLE rate_cards
    ADD template_id bigint,
    ADD tag varchar(256),
    ADD components jsonb,
    ADD markup numeric(18,6) CHECK (markup > 0),
    ADD month_price jsonb,
    ADD CHECK (template_id IS NULL OR tag IS NULL);
DROP INDEX rate_cards_from;
DROP INDEX rate_cards_first;
CREATE UNIQUE INDEX rate_cards_from ON rate_cards
    (account_id, COALESCE(template_id, 0), COALESCE(tag, ''), COALESCE(effective_from, '-infinity'::timestamptz))
    WHERE NOT offered;
"""

LEDGER: Final = """
ALTER TABLE ledger
    -- What is paid for: usage, a component, connect_fee, ...; which of the charge's rows this is, from 0.
    ADD line varchar(256) NOT NULL DEFAULT 'usage',
    ADD part smallint NOT NULL DEFAULT 0,
    -- So many units at unit_price are `exact`, which is rounded to `amount`.
    ADD quantity numeric,
    ADD list_amount numeric(18,6),
    ADD reason varchar(256),
    ADD tag varchar(256),
    -- What a later correction or a credit note refers to: the number of a closed statement.
    ADD reference varchar(256),
    -- The month of the statement in which it counts.
    ADD period date,
    ADD provider_cost_usd numeric,
    -- The price of a month is one row, however many calls it is of. No row is written again for this.
    ALTER unit_price TYPE numeric(24,6),
    ALTER amount TYPE numeric(24,6);
ALTER TABLE ledger DISABLE TRIGGER ledger_immutable;
-- A start that cannot be is taken for none was told (billing.assessment): its charges count when they were made.
UPDATE ledger l SET started_at = n.charged_at FROM (
    SELECT account_id, provider, conversation_id, started_at, min(created_at) AS charged_at FROM ledger
    WHERE started_at < '2020-01-01Z' OR started_at > created_at + interval '24 hours'
    GROUP BY account_id, provider, conversation_id, started_at
) n WHERE l.conversation_id = n.conversation_id AND l.provider = n.provider AND l.account_id = n.account_id
    AND l.started_at = n.started_at;
UPDATE ledger SET quantity = billed_seconds / 60.0, period = date_trunc('month', started_at AT TIME ZONE 'UTC')::date;
ALTER TABLE ledger ENABLE TRIGGER ledger_immutable;
ALTER TABLE ledger ALTER quantity SET NOT NULL, ALTER period SET NOT NULL;
-- All others count in the month of their start, which `ledger_started` finds.
CREATE INDEX ledger_corrections ON ledger (account_id, period) WHERE reference IS NOT NULL;
"""

SESSIONS: Final = """
ALTER TABLE sessions
    ADD tag varchar(256),
    -- The card that its template had chosen when the session became that template's, or that it was rated again by.
    ADD pinned_card_id text,
    -- The call ran on its customer's own key at the provider.
    ADD own_key boolean NOT NULL DEFAULT false,
    -- Which moment chose its card and its day: its start, or the first that was told of it.
    ADD rated_at timestamptz,
    ADD list_cost numeric(18,6),
    ADD waived_reason varchar(256),
    -- Of how many rows its newest charge consists; `charge_sequence` is that of the last.
    ADD charge_lines smallint NOT NULL DEFAULT 1,
    -- What a budget holds back for it until it ends.
    ADD reserved numeric(18,6),
    -- When its provider was asked what became of it.
    ADD asked_at timestamptz;
UPDATE sessions s
    SET tag = left(NULLIF(t.config ->> 'tag', ''), 256), pinned_card_id = t.rate_card_id,
        own_key = v.made_with IS NOT NULL
    FROM templates t LEFT JOIN voice_agents v ON v.template_id = t.id AND v.account_id = t.account_id
    WHERE t.id = s.template_id AND t.account_id = s.account_id AND s.terminal_ms IS NULL;
UPDATE sessions s SET rated_at = l.started_at, pinned_card_id = CASE WHEN c.offered THEN c.id END
    FROM ledger l LEFT JOIN rate_cards c ON c.id = l.rate_card_id
    WHERE l.conversation_id = s.conversation_id AND l.provider = s.provider AND l.account_id = s.account_id
        AND l.kind = 'charge' AND l.sequence = s.charge_sequence;
UPDATE sessions
    SET rated_at = CASE
        WHEN started_at BETWEEN '2020-01-01Z' AND to_timestamp(terminal_ms / 1000.0) + interval '24 hours'
            THEN started_at
        ELSE to_timestamp(terminal_ms / 1000.0) END
    WHERE rated_at IS NULL AND terminal_ms IS NOT NULL;
-- What a worker of the version before ends now would be in no usage and never be rated: it waits for one of this.
ALTER TABLE sessions ADD CONSTRAINT sessions_rated_at CHECK (terminal_ms IS NULL OR rated_at IS NOT NULL);
-- Those that somebody has to look at are few among many.
CREATE INDEX sessions_unrated ON sessions (account_id, rated_at) WHERE unrated_reason IS NOT NULL;
CREATE INDEX sessions_reserved ON sessions (account_id) WHERE reserved IS NOT NULL;
CREATE INDEX sessions_rated ON sessions (account_id, rated_at) WHERE terminal_ms IS NOT NULL;

-- Versions that know nothing of a template's terms do not say `own_key`: their sessions take them over here.
ALTER TABLE sessions ALTER own_key DROP DEFAULT;
CREATE FUNCTION take_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT COALESCE(NEW.pinned_card_id, t.rate_card_id), COALESCE(NEW.tag, left(NULLIF(t.config ->> 'tag', ''), 256)),
            v.made_with IS NOT NULL
        INTO NEW.pinned_card_id, NEW.tag, NEW.own_key
        FROM (SELECT) one
        LEFT JOIN templates t ON t.id = NEW.template_id AND t.account_id = NEW.account_id
        LEFT JOIN voice_agents v ON v.template_id = t.id AND v.account_id = t.account_id;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_terms BEFORE INSERT ON sessions
    FOR EACH ROW WHEN (NEW.own_key IS NULL) EXECUTE FUNCTION take_terms();
"""

USAGE: Final = """
-- Sums of the sessions that have ended, by the quarter-hour of rated_at: every time zone's days are made of those.
CREATE TABLE usage_quarters (
    account_id text NOT NULL,
    quarter timestamptz NOT NULL,
    provider varchar(256) NOT NULL,
    template_id bigint NOT NULL DEFAULT 0,
    tag varchar(256) NOT NULL DEFAULT '',
    status text NOT NULL CHECK (status IN ('completed', 'failed')),
    currency text NOT NULL DEFAULT '' CHECK (currency ~ '^([A-Z]{3})?$'),
    sessions bigint NOT NULL DEFAULT 0,
    unrated bigint NOT NULL DEFAULT 0,
    duration_seconds numeric NOT NULL DEFAULT 0,
    billed_seconds bigint NOT NULL DEFAULT 0,
    amount numeric(24,6) NOT NULL DEFAULT 0,
    list_amount numeric(24,6) NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, quarter, provider, template_id, tag, status, currency)
) WITH (fillfactor = 70);
INSERT INTO usage_quarters
    SELECT account_id, date_bin('15 minutes', rated_at, '2000-01-01Z'), provider, COALESCE(template_id, 0),
        COALESCE(tag, ''), status, COALESCE(currency, ''), count(*), count(unrated_reason),
        COALESCE(sum(duration_seconds), 0), COALESCE(sum(billed_seconds), 0), COALESCE(sum(cost), 0),
        COALESCE(sum(cost), 0)
    FROM sessions WHERE terminal_ms IS NOT NULL AND livemode AND status IN ('completed', 'failed')
    GROUP BY 1, 2, 3, 4, 5, 6, 7;
"""

STATEMENTS: Final = """
-- A statement's text is what its digest is of, and what every page of it is made from.
CREATE TABLE statements (
    account_id text NOT NULL,
    month date NOT NULL CHECK (month = date_trunc('month', month::timestamp)),
    status text NOT NULL CHECK (status IN ('closing', 'closed')),
    number text UNIQUE,
    currency text CHECK (currency ~ '^[A-Z]{3}$'),
    total numeric(24,6),
    body text,
    sha256 bytea CHECK (length(sha256) = 32),
    closed_by text NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (account_id, month),
    CHECK (status = 'closing' OR (number IS NOT NULL AND body IS NOT NULL AND sha256 IS NOT NULL AND total IS NOT NULL
        AND closed_at IS NOT NULL))
);
CREATE FUNCTION refuse_change_of_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'closed' THEN
        RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'a closed statement never changes';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER statements_closed BEFORE UPDATE OR DELETE ON statements
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_closed();
CREATE TRIGGER statements_kept BEFORE TRUNCATE ON statements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far each series of numbers has come: without gaps, because the number is taken in its document's transaction.
CREATE TABLE document_numbers (
    series text PRIMARY KEY,
    last integer NOT NULL CHECK (last > 0)
);

CREATE TABLE credit_notes (
    number text PRIMARY KEY,
    account_id text NOT NULL,
    -- The closed month that it gives back for.
    month date NOT NULL,
    amount numeric(18,6) NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason varchar(256) NOT NULL,
    actor text NOT NULL,
    approver varchar(256) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, month) REFERENCES statements (account_id, month)
);
CREATE INDEX credit_notes_account ON credit_notes (account_id, month);
CREATE TRIGGER credit_notes_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_notes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

BUDGETS: Final = """
CREATE TABLE budgets (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts,
    -- NULL: of the whole account.
    tag varchar(256),
    amount numeric(18,6) NOT NULL CHECK (amount > 0),
    thresholds smallint[] NOT NULL,
    hard_limit boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX budgets_scope ON budgets (account_id, COALESCE(tag, '')) WHERE deleted_at IS NULL;

-- A crossing is told once a month, and again only once a larger budget has lifted its threshold above what is spent.
CREATE TABLE budget_alerts (
    id text PRIMARY KEY,
    budget_id text NOT NULL REFERENCES budgets,
    account_id text NOT NULL,
    month date NOT NULL,
    threshold smallint NOT NULL,
    -- Of the budget, when it was crossed.
    amount numeric(18,6) NOT NULL,
    spent numeric(24,6) NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    rearmed_at timestamptz
);
CREATE UNIQUE INDEX budget_alerts_told ON budget_alerts (budget_id, month, threshold) WHERE rearmed_at IS NULL;
CREATE INDEX budget_alerts_account ON budget_alerts (account_id, month);

-- What an account is to be told: written with the fact itself, gone once it is in the outbox.
CREATE TABLE notices (
    -- The event's: whoever dies in between sends it again, and it is a repeat.
    id text PRIMARY KEY,
    account_id text NOT NULL,
    kind varchar(256) NOT NULL,
    subject varchar(256) NOT NULL,
    body text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notices_due ON notices (due_at, id);
"""

EXPORTS: Final = """
-- What an account is called at a destination; only the rows of accounts with a name there are sent.
CREATE TABLE export_customers (
    account_id text NOT NULL REFERENCES accounts,
    destination text NOT NULL CHECK (destination IN ('stripe', 'lago', 'openmeter')),
    customer varchar(256) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Its rows from here on were queued; older ones only by a backfill, which moves this back.
    first_ledger_id bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, destination)
);
-- Written with the ledger's rows, in their transaction; gone when the destination has taken them.
CREATE TABLE exports (
    destination text NOT NULL,
    ledger_id bigint NOT NULL,
    account_id text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- NULL: nobody tries any more.
    next_attempt_at timestamptz DEFAULT now(),
    -- Why it was not taken.
    code varchar(256),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Since when the destination may have it without our knowing: it forgets identifiers.
    sent_at timestamptz,
    PRIMARY KEY (destination, ledger_id)
);
CREATE INDEX exports_due ON exports (destination, next_attempt_at);
"""

RECONCILIATION: Final = """
-- What one account had at one provider on one day (UTC), as we know it and as the provider tells it.
CREATE TABLE reconciliations (
    account_id text NOT NULL,
    provider varchar(256) NOT NULL,
    day date NOT NULL,
    sessions bigint NOT NULL,
    provider_sessions bigint NOT NULL,
    -- Of the provider's, those that we had not heard of until we asked.
    found bigint NOT NULL DEFAULT 0,
    duration_seconds numeric NOT NULL,
    provider_duration_seconds numeric NOT NULL,
    amount numeric(24,6) NOT NULL,
    currency text NOT NULL DEFAULT '' CHECK (currency ~ '^([A-Z]{3})?$'),
    provider_cost_usd numeric,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, provider, day)
);
-- How far each list of a provider was read: with an account's own key, or with ours ('').
CREATE TABLE reconciliation_runs (
    account_id text NOT NULL,
    provider varchar(256) NOT NULL,
    through timestamptz NOT NULL,
    -- Through this day (UTC) what we have was compared with what the provider lists.
    compared_through date NOT NULL,
    busy_until timestamptz,
    PRIMARY KEY (account_id, provider)
);
"""


# What the API reads with every request comes last: it waits for these locks, and for them alone.
CONFIGURATION: Final = """
-- Through this month the account's statements are closed: what comes later counts in the next one.
ALTER TABLE accounts ADD closed_through date CHECK (closed_through = date_trunc('month', closed_through::timestamp));
-- Where an account hears of its budgets and statements.
ALTER TABLE endpoints ADD operations boolean NOT NULL DEFAULT false,
    -- Its filters alone keep calls from it: versions that know nothing of operations send whatever they take.
    ADD CHECK (NOT operations OR array_to_string(filters, ' ') ~ '^switchhook[.][^ ]+( switchhook[.][^ ]+)*$');
"""


def upgrade() -> None:
    """Add it all. Sessions and the ledger are locked from the beginning: bills and records wait in Redis meanwhile."""
    for script in (
        LOCKS,
        CARDS,
        LEDGER,
        SESSIONS,
        USAGE,
        STATEMENTS,
        BUDGETS,
        EXPORTS,
        RECONCILIATION,
        CONFIGURATION,
    ):
        op.get_bind().exec_driver_sql(script)
