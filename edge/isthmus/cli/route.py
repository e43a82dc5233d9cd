"""`isthmus route`: why a request goes where it goes."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.chat import RouteMode

if TYPE_CHECKING:
    from isthmus.router.config import RouterConfig
    from isthmus.router.signals import CloudState, Signals

app = typer.Typer(no_args_is_help=True, help="Explain where requests go.")


class CloudPlay(StrEnum):
    """The cloud that `explain` pretends to see."""

    OK = "ok"
    OFFLINE = "offline"
    BREAKER_OPEN = "breaker-open"


@app.callback()
def route() -> None:
    """Explain where requests go."""


@app.command(epilog='Example: isthmus route explain "Prove that 2 is prime" --cloud breaker-open')
def explain(
    text: Annotated[str, typer.Argument(help="What a user would ask; - reads it from stdin.")],
    mode: Annotated[RouteMode, typer.Option(help="The route that the request asks for.")] = (
        RouteMode.AUTO
    ),
    cloud: Annotated[CloudPlay, typer.Option(help="The state of the cloud.")] = CloudPlay.OK,
    threshold: Annotated[
        float | None,
        typer.Option(help="The gain in quality that escalates, in the place of worths."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer that the request allows.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; it never holds the text.")
    ] = False,
) -> None:
    """Print the decision for TEXT, and every term of it. Nothing is sent and no model is needed."""
    from isthmus.core.chat import ChatRequest, Message, Role, RoutePreference, TextPart
    from isthmus.core.errors import ConfigError
    from isthmus.router.config import RouterConfig
    from isthmus.router.signals import EdgeState, gather

    request = ChatRequest(
        request_id="explain",
        messages=(Message(Role.USER, (TextPart(_text(text)),)),),
        max_tokens=max_tokens,
        preference=RoutePreference(mode=mode),
    )
    try:
        config = RouterConfig(threshold=threshold)
    except ConfigError as error:
        raise typer.BadParameter(error.message, param_hint="--threshold") from None
    signals = gather(request, edge=EdgeState(), cloud=_cloud(cloud))
    explained = _explained(signals, config)
    if as_json:
        import json

        print(json.dumps(explained))
    else:
        _show(explained)


def _text(argument: str) -> str:
    if argument != "-":
        text = argument
    else:
        try:
            text = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise typer.BadParameter("stdin is not UTF-8 text", param_hint="TEXT") from None
    if not text.strip():
        raise typer.BadParameter("the text is empty: say what a user would ask", param_hint="TEXT")
    return text


def _cloud(play: CloudPlay) -> CloudState:
    from isthmus.router.signals import CloudState

    return CloudState(
        available=play is not CloudPlay.OFFLINE, breaker_open=play is CloudPlay.BREAKER_OPEN
    )


def _explained(signals: Signals, config: RouterConfig) -> dict[str, Any]:
    """The decision, or the refusal, with everything that it was made from."""
    from isthmus.core.errors import PolicyRefused
    from isthmus.router.policy import decide

    basis = {
        "privacy": {
            "class": signals.privacy.privacy_class.value,
            "labels": dict(signals.privacy.labels),
        },
        "prompt_tokens": signals.prompt_tokens,
        "quality": {
            "edge": signals.quality.edge,
            "cloud": signals.quality.cloud,
            "reason": signals.quality.reason.value,
            "version": signals.quality.version,
            "terms": dict(signals.quality.terms),
        },
    }
    try:
        decision = decide(signals, config)
    except PolicyRefused as error:
        return {"target": None, "reasons": [error.reason], "refused": error.message, **basis}
    return {
        "target": decision.target.value,
        "reasons": [reason.value for reason in decision.reasons],
        "fallback_allowed": decision.fallback_allowed,
        "scores": dict(decision.scores),
        "thresholds": dict(decision.thresholds),
        **basis,
    }


def _show(explained: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    target = explained["target"] or "refused"
    console.print(f"[bold]{target}[/bold]: {', '.join(explained['reasons'])}", highlight=False)
    if "refused" in explained:
        console.print(explained["refused"], highlight=False)
    else:
        allowed = "may" if explained["fallback_allowed"] else "may not"
        console.print(f"The other tier {allowed} answer if this one fails.")
    quality = explained["quality"]
    title = f"Expected quality ({quality['reason']})"
    terms = Table("term", "value", title=title, title_justify="left")
    for name in ("edge", "cloud"):
        terms.add_row(f"{name}: good enough", f"{quality[name]:.2f}")
    for name, value in quality["terms"].items():
        terms.add_row(name, f"{value:.2f}", style=None if value else "dim")
    console.print(terms)
    facts = Table("compared", "value", "limit", title="Decision", title_justify="left")
    labels = explained["privacy"]["labels"]
    found = ", ".join(f"{label} × {count}" for label, count in sorted(labels.items()))
    facts.add_row("privacy", explained["privacy"]["class"], found or "nothing found")
    for name, value, limit in _comparisons(explained):
        facts.add_row(name, value, limit)
    console.print(facts)


COMPARED = {
    "gain": ("gain",),
    "edge.value_micro_usd": (),
    "cloud.value_micro_usd": (),
    "tokens_needed": ("edge_context_tokens", "cloud_context_tokens"),
    "cloud.price_at_most_micro_usd": ("budget.request_micro_usd", "budget.left_micro_usd"),
    "edge.ttft_p95_ms": ("ttft_slo_ms",),
    "cloud.ttft_p95_ms": ("ttft_slo_ms",),
}
"""Each score of a decision, and the thresholds that it is held against."""


def _comparisons(explained: dict[str, Any]) -> list[tuple[str, str, str]]:
    scores, thresholds = explained.get("scores", {}), explained.get("thresholds", {})
    return [
        (
            score,
            f"{scores[score]:g}",
            ", ".join(f"{name} {thresholds[name]:g}" for name in limits if name in thresholds),
        )
        for score, limits in COMPARED.items()
        if score in scores
    ]
