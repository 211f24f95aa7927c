"""Budgets: what an account means to spend in a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, UnsetType

from billing.budgets import USUAL_THRESHOLDS, change, checked_amount, checked_thresholds
from relay.calls import MAX_FACT_CHARS
from relay.errors import Conflict
from relay.provisioning.changes import Changes
from relay.provisioning.checks import checked_text
from relay.store import budgets, shown
from relay.store.budgets import Budget

# One for the whole account and one for each tag: all are looked at every minute.
MAX_BUDGETS: Final = 100


class BudgetChanges(Changes):
    """Makes and changes budgets. They are no part of what is mirrored: no webhook depends on one."""

    def create_budget(
        self,
        *,
        account_id: str,
        amount: str,
        tag: str | None = None,
        thresholds: Sequence[int] = USUAL_THRESHOLDS,
        hard_limit: bool = False,
    ) -> Budget:
        """A budget of a tag, else of the whole account. `amount` is decimal text in the account's currency.

        Raises Conflict `budget_exists`, `too_many_budgets`.
        """
        money, percentages = checked_amount(amount), checked_thresholds(thresholds)
        if tag is not None:
            checked_text(tag, "tag", MAX_FACT_CHARS)
        with self._locked(account_id) as connection:
            if budgets.count(connection, account_id=account_id) >= MAX_BUDGETS:
                text = f"an account may have {MAX_BUDGETS} budgets; delete one first"
                raise Conflict(text, code="too_many_budgets")
            row = budgets.create(
                connection,
                account_id=account_id,
                amount=money,
                thresholds=percentages,
                tag=tag,
                hard_limit=hard_limit,
            )
            self._audit(connection, "budget.created", row.id, account_id=account_id, after=shown.budget(row))
        return row

    def update_budget(
        self,
        *,
        account_id: str,
        budget_id: str,
        amount: str | UnsetType = UNSET,
        thresholds: Sequence[int] | UnsetType = UNSET,
        hard_limit: bool | UnsetType = UNSET,
    ) -> Budget:
        """Change what is given and leave the rest. Raises NotFound.

        A larger amount has those thresholds told again, once they are crossed, that it lifts above what is spent.
        """
        money = amount if isinstance(amount, UnsetType) else checked_amount(amount)
        percentages = thresholds if isinstance(thresholds, UnsetType) else checked_thresholds(thresholds)
        # The budget's own lock, and not the account's: who begins a session waits for this one only.
        with self._database.begin() as connection:
            before = budgets.get(connection, account_id=account_id, budget_id=budget_id, for_change=True)
            row = change(connection, before, amount=money, thresholds=percentages, hard_limit=hard_limit)
            then, now = shown.budget(before), shown.budget(row)
            self._audit(connection, "budget.updated", budget_id, account_id=account_id, before=then, after=now)
        return row

    def delete_budget(self, *, account_id: str, budget_id: str) -> None:
        """Take a budget away: nothing more is told of it, and it limits nothing. Raises NotFound."""
        with self._database.begin() as connection:
            before = budgets.get(connection, account_id=account_id, budget_id=budget_id, for_change=True)
            budgets.delete(connection, account_id=account_id, budget_id=budget_id)
            self._audit(connection, "budget.deleted", budget_id, account_id=account_id, before=shown.budget(before))
