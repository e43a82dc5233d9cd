"""How requests are decided, doubted and learnt from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from isthmus.core.decision import Reason, Target
from isthmus.core.events import DraftVerdict
from isthmus.core.money import MICRO_USD_PER_USD
from isthmus.edge.metrics.collectors import RouterCollector
from isthmus.router.online import Correction, Lesson

if TYPE_CHECKING:
    from isthmus.edge.trained import Taken
    from isthmus.router.budget import BudgetState
    from isthmus.router.signals import DeviceHealth

_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_JUDGEMENTS = ("good", "bad")
_DECISION_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)


class RoutingMetrics:
    """What the router's parts count, in the agent's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._decision = Histogram(
            "isthmus_edge_decision_seconds",
            "What the router takes for a decision, its look at the text included.",
            buckets=_DECISION_S,
            registry=registry,
        )
        self._races = Counter(
            "isthmus_edge_races",
            "Requests that both tiers began at once, by the tier that answered.",
            ("winner",),
            registry=registry,
        )
        self._doubts = Counter(
            "isthmus_edge_doubts",
            "Doubts of the device about its own answer, by reason and what came of them: "
            "handed_over to the cloud, kept (it may not help), refused, too_slow, failed.",
            ("reason", "result"),
            registry=registry,
        )
        self._draft_tokens = Counter(
            "isthmus_edge_draft_tokens",
            "The cloud's tokens of drafts that the device offered it: accepted, refused.",
            ("result",),
            registry=registry,
        )
        self._expected = Histogram(
            "isthmus_edge_expected_quality",
            "How probably answers were good enough, as their decisions took it, by who gave them.",
            ("route",),
            buckets=_SHARES,
            registry=registry,
        )
        self._judged = Counter(
            "isthmus_edge_judged_answers",
            "Answers that a person called good or bad, by who gave them.",
            ("route", "judgement"),
            registry=registry,
        )
        self._expected_good = Counter(
            "isthmus_edge_judged_expected_good",
            "How many of the judged answers were expected to be good: the sum of what their "
            "decisions took for probable. Beside those judged good it shows the calibration.",
            ("route",),
            registry=registry,
        )
        self._correction = Gauge(
            "isthmus_edge_quality_correction",
            "What judged answers add to the expected quality of a tier, as a probability.",
            ("route",),
            registry=registry,
        )
        self._agreement = Histogram(
            "isthmus_edge_shadow_agreement",
            "How alike an answer and the other tier's are, 0 to 1, by who gave the first.",
            ("route",),
            buckets=_SHARES,
            registry=registry,
        )
        self._drift = Gauge(
            "isthmus_edge_shadow_drift",
            "Recent agreement less the usual one: below 0 the tiers drift apart.",
            ("route",),
            registry=registry,
        )
        self._regret = Counter(
            "isthmus_edge_shadow_regret_usd",
            "What the other tier was worth more, where both answered, by who gave the first; the "
            "cloud's answer is the reference (`isthmus.router.regret`).",
            ("route",),
            registry=registry,
        )
        self._files = Counter(
            "isthmus_edge_trained_files",
            "Trained files that were tried, by what became of them: loaded, broken, worse on the "
            "shadow set.",
            ("result",),
            registry=registry,
        )
        self._file = Gauge(
            "isthmus_edge_trained_file_info",
            "1 for the version of the trained file in use.",
            ("version",),
            registry=registry,
        )
        for target in Target:
            self._races.labels(target.value)
            self._expected_good.labels(target.value)
            self._regret.labels(target.value)
            for judgement in _JUDGEMENTS:
                self._judged.labels(target.value, judgement)
        for result in ("accepted", "refused"):
            self._draft_tokens.labels(result)

    def decided(self, seconds: float) -> None:
        """Note how long a decision took."""
        self._decision.observe(seconds)

    def raced(self, winner: Target) -> None:
        """Count a race."""
        self._races.labels(winner.value).inc()

    def doubted(self, reason: Reason, result: str) -> None:
        """Count a doubt and what came of it."""
        self._doubts.labels(reason.value, result).inc()

    def drafted(self, verdict: DraftVerdict) -> None:
        """Count a draft's tokens."""
        self._draft_tokens.labels("accepted").inc(verdict.accepted_tokens)
        self._draft_tokens.labels("refused").inc(verdict.tokens - verdict.accepted_tokens)

    def judged(self, target: Target, *, good: bool) -> None:
        """Count a person's judgement of an answer of `target`."""
        self._judged.labels(target.value, _JUDGEMENTS[not good]).inc()

    def expected(self, target: Target, quality: float | None) -> None:
        """Note how good an answer of `target` was expected to be; None: nobody reckoned."""
        if quality is not None:
            self._expected.labels(target.value).observe(quality)

    def learnt_of(self, lesson: Lesson) -> None:
        """Note how good a judged answer was expected to be. From any thread."""
        self._expected_good.labels(lesson.tier.value).inc(lesson.expected)

    def took_file(self, taken: Taken, version: str) -> None:
        """Count a trained file that was tried; `version` is the one in use since."""
        self._files.labels(taken.value).inc()
        self._file.clear()
        self._file.labels(version).set(1)

    def compared(self, target: Target, agreed: float, regret_micro_usd: float | None) -> None:
        """Note how alike an answer of `target` and the other tier's are, and its regret."""
        self._agreement.labels(target.value).observe(agreed)
        if regret_micro_usd is not None:
            self._regret.labels(target.value).inc(regret_micro_usd / MICRO_USD_PER_USD)

    def watch(
        self,
        *,
        health: Callable[[], DeviceHealth],
        budget: Callable[[], BudgetState],
        correction: Callable[[], Correction],
        drift: Callable[[Target], float],
    ) -> None:
        """Read at each scrape what the router is told, and what it has learnt."""
        self._registry.register(RouterCollector(health, budget))
        self._correction.labels(Target.EDGE.value).set_function(lambda: correction().edge)
        self._correction.labels(Target.CLOUD.value).set_function(lambda: correction().cloud)
        for target in Target:
            self._drift.labels(target.value).set_function(partial(drift, target))
