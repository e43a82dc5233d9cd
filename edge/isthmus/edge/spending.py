"""Money for the cloud: set aside before each call, booked after it, not forgotten by a restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Outcome, Reason
from isthmus.core.errors import PolicyRefused
from isthmus.core.money import MICRO_USD_PER_USD, Price, Usage
from isthmus.edge.ledger import Ledger
from isthmus.router.budget import Budget, BudgetState
from isthmus.router.config import BudgetLimits
from isthmus.router.signals import estimate_tokens, most_tokens

_NO_LIMITS = BudgetLimits()


class Spending:
    """The agent's budget, kept in its ledger. For one event loop."""

    def __init__(
        self,
        limits: BudgetLimits = _NO_LIMITS,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads what was spent this month; blocking."""
        self._ledger = ledger
        self._clock = clock
        # Also without limits: those that come later count what was spent before them.
        known = (lambda unix_s: 0) if ledger is None else ledger.spent_since
        self.budget = Budget(limits, spent_since=known, clock=clock)

    @property
    def limited(self) -> bool:
        """Whether there is a budget to keep."""
        limits = self.budget.limits
        return limits.day_usd is not None or limits.month_usd is not None

    def limit(self, limits: BudgetLimits) -> None:
        """Keep these limits from now on. Days and months go on as they began."""
        self.budget.limits = limits

    @property
    def state(self) -> BudgetState:
        """Where the budgets stand now."""
        return self.budget.state()

    def purse(self, request: ChatRequest, price: Price, *, only_look: bool = False) -> Purse:
        """What may be paid for `request`; with `only_look` nothing of it is set aside."""
        return Purse(request.request_id, price, self, only_look=only_look)

    def set_aside(self, request_id: str, micro_usd: int) -> None:
        """Take `micro_usd` out of what is left until the request is settled."""
        if self.limited and self.budget.reserve(request_id, micro_usd) and self._ledger:
            held = self.budget.held(request_id)
            self._ledger.set_aside(request_id, self._clock(), held)

    def settle(self, outcome: Outcome) -> None:
        """Book what a request did cost. The ledger does it by itself, with the outcome."""
        self.budget.settle(outcome.request_id, outcome.price_micro_usd, outcome.at_unix_s)


@dataclass(slots=True)
class Purse:
    """What the cloud may be paid for one request."""

    request_id: str = ""
    price: Price = field(default_factory=Price)
    spending: Spending | None = None
    only_look: bool = False
    _short: Reason = Reason.PRICE_ABOVE_LIMIT

    def affordable_tokens(self, request: ChatRequest, paid_micro_usd: int = 0) -> int | None:
        """How long the cloud's answer may be at most, its price set aside; None: as long as it
        likes, 0: the prompt alone is too dear.

        `request` is as it would leave, with what it allows of tokens itself; `paid_micro_usd` was
        paid for it before.
        """
        if self.price == Price():
            return None
        state = BudgetState() if self.spending is None else self.spending.state
        own_usd = request.preference.max_price_usd
        own = math.inf if own_usd is None else own_usd * MICRO_USD_PER_USD
        own = min(own, math.inf if state.request_micro_usd is None else state.request_micro_usd)
        left = math.inf if state.left_micro_usd is None else float(state.left_micro_usd)
        if math.isinf(own) and math.isinf(left):
            return None
        # A limit of one's own is held against what is expected, the budget against the worst.
        most = most_tokens(request)
        by_own = self._answer_tokens(own - paid_micro_usd, estimate_tokens(request))
        by_budget = self._answer_tokens(left, most)
        self._short = Reason.PRICE_ABOVE_LIMIT if by_own < 1 else Reason.BUDGET_SPENT
        wished = request.max_tokens
        if wished is None and self.spending is not None and not math.isinf(left):
            wished = self.spending.budget.limits.longest_answer_tokens
        affordable = min(by_own, by_budget, math.inf if wished is None else wished)
        if affordable < 1:
            return 0
        if math.isinf(affordable):
            return None
        tokens = int(affordable)
        if self.spending is not None and not self.only_look and not math.isinf(left):
            at_most = self.price.cost_micro_usd(Usage(most, tokens))
            self.spending.set_aside(self.request_id, at_most)
        return tokens

    def refusal(self) -> PolicyRefused:
        """Why `affordable_tokens` gave 0."""
        if self._short is Reason.BUDGET_SPENT:
            return PolicyRefused(
                "what is left of the budget does not pay for the cloud's answer: raise "
                "router.budget, wait for its next day or month, or allow the device",
                reason=self._short.value,
                field="isthmus.route",
            )
        return PolicyRefused(
            "the cloud's price for the prompt alone is above the limit for one request: raise "
            "isthmus.max_price_usd or router.budget.request_usd, or allow the device",
            reason=self._short.value,
            field="isthmus.max_price_usd",
        )

    def _answer_tokens(self, micro_usd: float, prompt_tokens: int) -> float:
        """How many tokens of an answer `micro_usd` pays for after the prompt."""
        left = micro_usd - float(self.price.input_usd_per_mtok) * prompt_tokens
        if not left >= 0:
            return 0.0
        per_token = float(self.price.output_usd_per_mtok)
        return math.inf if math.isinf(left) or not per_token else left // per_token
