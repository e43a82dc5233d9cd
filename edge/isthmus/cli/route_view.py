"""A decision taken apart, as one JSON object and as tables for people."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.cli.route_situation import Deciding
    from isthmus.router.config import RouterConfig
    from isthmus.router.signals import Signals

_TERMS = ("quality", "price", "time", "energy", "moving", "leaving", "value")


def taken_apart(signals: Signals, deciding: Deciding) -> dict[str, Any]:
    """The decision, or the refusal, with everything that it was made from; never the text."""
    from isthmus.cli.route_why import why
    from isthmus.core.errors import PolicyRefused
    from isthmus.router.gates import shut_gates
    from isthmus.router.policy import decide

    config = deciding.router
    quality, budget = signals.quality, signals.budget
    shown: dict[str, Any] = {
        "target": None,
        "reasons": [],
        "why": "",
        "bundle": _bundle(deciding),
        "preset": config.preset.value,
        "weights": asdict(config.weights),
        "goal": config.target,
        "threshold_source": config.threshold_source,
        "gates": [
            {"shut": gate.shut.value, "reason": gate.reason.value}
            for gate in shut_gates(signals, config)
        ],
        "presets": _presets(signals, config),
        "device": {n: v for n, v in asdict(signals.device).items() if v is not None},
        "budget": {
            name: None if one is None else asdict(one) | {"shadow_price": one.shadow_price}
            for name, one in (("day", budget.day), ("month", budget.month))
        },
        "privacy": {
            "class": signals.privacy.privacy_class.value,
            "labels": dict(signals.privacy.labels),
        },
        "prompt_tokens": signals.prompt_tokens,
        "quality": {
            "edge": quality.edge,
            "cloud": quality.cloud,
            "reason": quality.reason.value,
            "version": quality.version,
            "terms": dict(quality.terms),
        },
    }
    try:
        decision = decide(signals, config)
    except PolicyRefused as error:
        return shown | {"reasons": [error.reason], "why": error.message, "refused": error.message}
    return shown | {
        "target": decision.target.value,
        "reasons": [reason.value for reason in decision.reasons],
        "why": why(decision),
        "fallback_allowed": decision.fallback_allowed,
        "race": decision.race,
        "scores": dict(decision.scores),
        "thresholds": dict(decision.thresholds),
    }


def _bundle(deciding: Deciding) -> dict[str, Any] | None:
    bundle = deciding.bundle
    if bundle is None:
        return None
    return {
        "sequence": bundle.sequence,
        "version": bundle.version,
        "created_unix_s": bundle.created_unix_s,
        "changes": list(deciding.changed),
    }


def _presets(signals: Signals, config: RouterConfig) -> dict[str, str | None]:
    """Where each preset would send the request, its own worths in the place of any others."""
    from isthmus.core.errors import PolicyRefused
    from isthmus.router.policy import decide
    from isthmus.router.presets import Preset

    plain = replace(
        config,
        good_answer_usd=None,
        second_usd=None,
        battery_percent_usd=None,
        leave_usd=None,
        unpriced_usd=None,
        threshold=None,
    )
    targets: dict[str, str | None] = {}
    for preset in Preset:
        try:
            targets[preset.value] = decide(signals, replace(plain, preset=preset)).target.value
        except PolicyRefused:
            targets[preset.value] = None
    return targets


def show(shown: dict[str, Any]) -> None:
    """Print it for people."""
    from rich.console import Console

    console = Console()
    target = shown["target"] or "refused"
    console.print(f"[bold]{target}[/bold]: {', '.join(shown['reasons'])}", highlight=False)
    console.print(shown["why"], highlight=False)
    if shown["bundle"] is not None:
        console.print(_bundle_line(shown["bundle"]), highlight=False, markup=False)
    if "refused" not in shown:
        allowed = "may" if shown["fallback_allowed"] else "may not"
        both = " Both may start at once." if shown["race"] else ""
        console.print(f"The other tier {allowed} answer if this one fails.{both}")
    console.print(_quality_table(shown["quality"]))
    if shown["gates"]:
        gates = _table("Gates that are shut", "tier", "reason")
        for gate in shown["gates"]:
            gates.add_row(gate["shut"], gate["reason"])
        console.print(gates)
    if "scores" in shown:
        console.print(_worth_table(shown))
    console.print(_facts_table(shown))
    choices = (f"{name} → {where or 'refused'}" for name, where in shown["presets"].items())
    console.print(f"presets: {', '.join(choices)}", highlight=False, soft_wrap=True)


def _bundle_line(bundle: dict[str, Any]) -> str:
    made = datetime.fromtimestamp(bundle["created_unix_s"], UTC)
    changes = ", ".join(bundle["changes"]) or "nothing of it"
    return (
        f"Decided by bundle {bundle['sequence']} ({bundle['version']}) of {made:%Y-%m-%d %H:%M} "
        f"UTC, which changes {changes}."
    )


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left")


def _quality_table(quality: dict[str, Any]) -> Table:
    table = _table(f"Expected quality ({quality['reason']})", "term", "value")
    for name in ("edge", "cloud"):
        table.add_row(f"{name}: good enough", f"{quality[name]:.2f}")
    for name, value in quality["terms"].items():
        table.add_row(name, f"{value:.2f}", style=None if value else "dim")
    return table


def _worth_table(shown: dict[str, Any]) -> Table:
    table = _table(f"Worth in micro-dollars ({shown['preset']})", "term", "edge", "cloud")
    for term in _TERMS:
        sign = "" if term in {"quality", "value"} else "−"
        cells = [shown["scores"][f"{tier}.{term}_micro_usd"] for tier in ("edge", "cloud")]
        table.add_row(
            term,
            *(f"{sign}{cell:,.0f}" if cell else "0" for cell in cells),
            style="bold" if term == "value" else None if any(cells) else "dim",
        )
    return table


COMPARED = {
    "gain": ("gain",),
    "tokens_needed": ("edge_context_tokens", "cloud_context_tokens"),
    "cloud.price_at_most_micro_usd": ("budget.request_micro_usd", "budget.left_micro_usd"),
    "shadow_price": (),
    "edge.ttft_p95_ms": ("ttft_slo_ms",),
    "cloud.ttft_p95_ms": ("ttft_slo_ms",),
    "battery": ("battery_floor",),
    "temperature_c": (),
}
"""Each score of a decision, and the thresholds that it is held against."""


_DEAR = 1000.0
"""From here on parts say nothing, and a price that is felt so many times is above all worths."""


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _DEAR else f"{value:.4g}"


def _figure(name: str, value: float) -> str:
    if name != "shadow_price":
        return _plain(value)
    return f"price felt {value + 1:,.3g} times" if value < _DEAR else "price felt above 1,000 times"


def _facts_table(shown: dict[str, Any]) -> Table:
    table = _table("Decision", "compared", "value", "limit")
    labels = shown["privacy"]["labels"]
    found = ", ".join(f"{label} × {count}" for label, count in sorted(labels.items()))
    table.add_row("privacy", shown["privacy"]["class"], found or "nothing found")
    scores, thresholds = shown.get("scores", {}), shown.get("thresholds", {})
    for score, limits in COMPARED.items():
        if score in scores:
            against = (f"{one} {_plain(thresholds[one])}" for one in limits if one in thresholds)
            table.add_row(score, _figure(score, scores[score]), ", ".join(against))
    if shown["goal"]:
        source = shown["threshold_source"] or "not calibrated: isthmus route calibrate"
        table.add_row("target", shown["goal"], source)
    return table
