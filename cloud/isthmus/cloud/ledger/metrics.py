"""What is counted of the ledger: spending by tenant, refusals by quota, how far behind it is.

The only module of this package that imports prometheus_client.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from isthmus.cloud.ledger.base import LedgerState, Reconciled
from isthmus.cloud.ledger.quotas import QuotaConfig

_MOST_TENANTS: Final = 100


class LedgerMetrics:
    """The ledger's part of the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._tenants: set[str] = set()
        self._spent = Counter(
            "isthmus_cloud_spent_micro_usd",
            "Micro-dollars charged, by tenant; those of many tenants are told together as 'other'.",
            ["tenant"],
            registry=registry,
        )
        self._budget = Gauge(
            "isthmus_cloud_budget_usd",
            "What a tenant may spend in a period of the calendar (UTC) by its quotas; tenants that "
            "were charged since the start.",
            ["tenant", "period"],
            registry=registry,
        )
        self._quotas = QuotaConfig()
        self._refused = Counter(
            "isthmus_cloud_quota_refusals",
            "Requests that a quota refused, by the quota's name.",
            ["quota"],
            registry=registry,
        )
        self._reconciled = Counter(
            "isthmus_cloud_reconciled",
            "What devices acknowledged beside what was charged: equal, corrected (a kill had cut "
            "the answer off), disputed (beyond what can be true), unknown.",
            ["result"],
            registry=registry,
        )
        self.reconciled(Reconciled())

    def watch(self, state: Callable[[], LedgerState]) -> None:
        """Read the ledger's state whenever somebody scrapes."""
        for name, told, what in (
            ("open_reservations", "Requests with a reservation, not settled yet.", "open_accounts"),
            ("ledger_queue_length", "Changes not in the database yet.", "waiting_changes"),
            ("ledger_lag_seconds", "How long the last transaction's oldest waited.", "lag_s"),
            ("ledger_away_seconds", "How long the ledger's database has been away.", "away_s"),
            ("ledger_late_requests", "Served meanwhile, and not in it yet.", "late_requests"),
        ):
            gauge = Gauge(f"isthmus_cloud_{name}", told, registry=self._registry)
            gauge.set_function(functools.partial(_attribute, state, what))

    def settled(self, tenant: str, micro_usd: int) -> None:
        """A request was charged so much more."""
        if tenant not in self._tenants and len(self._tenants) >= _MOST_TENANTS:
            tenant = "other"
        else:
            self._tenants.add(tenant)
            self._budgets(tenant)
        self._spent.labels(tenant=tenant).inc(micro_usd)

    def keep_to(self, quotas: QuotaConfig) -> None:
        """Tell the budgets in these beside what is spent."""
        self._quotas = quotas

    def _budgets(self, tenant: str) -> None:
        limits, _ = self._quotas.of(tenant)
        for period, most_usd in (("day", limits.usd_per_day), ("month", limits.usd_per_month)):
            if most_usd is not None:
                self._budget.labels(tenant=tenant, period=period).set(float(most_usd))

    def refused(self, quota: str) -> None:
        """A quota refused a request."""
        self._refused.labels(quota=quota).inc()

    def reconciled(self, result: Reconciled) -> None:
        """A batch of acknowledgements was compared."""
        for name in ("equal", "corrected", "disputed", "unknown"):
            self._reconciled.labels(result=name).inc(getattr(result, name))


def _attribute(state: Callable[[], LedgerState], name: str) -> float:
    return float(getattr(state(), name))
