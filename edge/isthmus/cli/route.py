"""`isthmus route`: why a request goes where it goes."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import route_learn
from isthmus.cli.route_calibrate import calibrate
from isthmus.cli.route_label import label
from isthmus.cli.route_simulate import simulate
from isthmus.cli.route_situation import CloudPlay, Situation, Times
from isthmus.core.chat import RouteMode

app = typer.Typer(no_args_is_help=True, help="Explain where requests go, and learn it.")
app.add_typer(route_learn.app)


class PresetName(StrEnum):
    """The names of `isthmus.router.presets`, which is not loaded for a help page."""

    SAVER = "saver"
    BALANCED = "balanced"
    BEST = "best"
    PRIVATE = "private"
    OFFLINE = "offline"


@app.callback()
def route() -> None:
    """Explain where requests go, one by one and for whole fleets."""


app.command(
    epilog="Example: isthmus route label questions.jsonl --cloud 127.0.0.1:50051 --out labels.jsonl"
)(label)
app.command(epilog="Example: isthmus route calibrate labels.jsonl --min-quality-share 0.95")(
    calibrate
)
app.command(
    epilog="Example: isthmus route simulate --devices 100000 --fail cloud@20:00+1h --plots plots"
)(simulate)


def _dollars(text: str | None) -> str | None:
    try:
        if text is None or (Decimal(text).is_finite() and Decimal(text) >= 0):
            return text
    except InvalidOperation:
        pass
    raise typer.BadParameter("must be at least 0 dollars")


_Ms = typer.Option(min=0.001, rich_help_panel="Times, as if measured (both tiers' count together)")
_Device = "The device, as if its sensors said so"
_Money = "Money"


@app.command(epilog='Example: isthmus route explain "Prove that 2 is prime" --battery 10')
def explain(
    text: Annotated[str, typer.Argument(help="What a user would ask; - reads it from stdin.")],
    mode: Annotated[RouteMode, typer.Option(help="The route that the request asks for.")] = (
        RouteMode.AUTO
    ),
    cloud: Annotated[CloudPlay, typer.Option(help="The state of the cloud.")] = CloudPlay.OK,
    preset: Annotated[
        PresetName | None, typer.Option(help="What things are worth, over the settings.")
    ] = None,
    good_answer_usd: Annotated[
        float | None, typer.Option(help="What a good answer in the place of a bad one is worth.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The gain in quality that escalates, in place of worths.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer that the request allows.")
    ] = None,
    slo_ms: Annotated[
        float | None, typer.Option(min=0.001, help="The promised time to the first token.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The agent's settings file; the environment stands over it.")
    ] = None,
    ignore_bundle: Annotated[
        bool,
        typer.Option(
            "--ignore-bundle", help="By the device's own settings, not the operator's bundle."
        ),
    ] = False,
    another_pair: Annotated[
        bool,
        typer.Option(help="As with models that nobody labelled, not the catalogue's pair."),
    ] = False,
    edge_ttft_ms: Annotated[float | None, _Ms] = None,
    edge_tpot_ms: Annotated[float | None, _Ms] = None,
    cloud_ttft_ms: Annotated[float | None, _Ms] = None,
    cloud_tpot_ms: Annotated[float | None, _Ms] = None,
    cloud_usd_per_mtok: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Of prompt and answer, over the settings.", rich_help_panel=_Money),
    ] = None,
    spent_today_usd: Annotated[
        str | None,
        typer.Option(
            callback=_dollars,
            help="Spent of the settings' budgets, at noon.",
            rich_help_panel=_Money,
        ),
    ] = None,
    battery: Annotated[
        float | None, typer.Option(min=0, max=100, help="In percent.", rich_help_panel=_Device)
    ] = None,
    charging: Annotated[
        bool | None, typer.Option("--charging/--on-battery", rich_help_panel=_Device)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="The processor's, in °C.", rich_help_panel=_Device)
    ] = None,
    sensors: Annotated[
        bool,
        typer.Option(
            "--sensors", help="Ask this device's own for the rest.", rich_help_panel=_Device
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; it never holds the text.")
    ] = False,
) -> None:
    """Print the decision for TEXT, and every term of it. Nothing is sent and no model is needed.

    It is decided as by the agent that has these settings: by the operator's bundle where one is in
    use on this device, and by the router file of either.
    """
    from isthmus.cli.route_situation import settings
    from isthmus.cli.route_view import show, taken_apart
    from isthmus.core.errors import ConfigError

    for dollars in cloud_usd_per_mtok or ():
        _dollars(dollars)
    situation = Situation(
        text=_text(text),
        mode=mode,
        cloud=cloud,
        max_tokens=max_tokens,
        slo_ms=slo_ms,
        edge=Times(edge_ttft_ms, tpot_ms=edge_tpot_ms),
        in_cloud=Times(cloud_ttft_ms, tpot_ms=cloud_tpot_ms),
        usd_per_mtok=cloud_usd_per_mtok,
        battery_percent=battery,
        charging=charging,
        temperature_c=temperature,
        sensors=sensors,
        another_pair=another_pair,
        spent_today_usd=spent_today_usd,
    )
    changes = {
        "preset": None if preset is None else _preset(preset),
        "good_answer_usd": good_answer_usd,
        "threshold": threshold,
    }
    try:
        deciding = settings(config, changes, ignore_bundle=ignore_bundle)
    except ConfigError as error:
        name = (error.field or "").removeprefix("router.")
        hint = name.replace("_", "-") if changes.get(name) is not None else "config"
        raise typer.BadParameter(error.message, param_hint=f"--{hint}") from None
    shown = taken_apart(situation.signals(deciding), deciding)
    if as_json:
        import json

        print(json.dumps(shown))
    else:
        show(shown)


def _preset(name: PresetName) -> object:
    from isthmus.router.presets import Preset

    return Preset(name.value)


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
