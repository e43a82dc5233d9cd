"""`isthmus cloud serving`: what the section `serving` becomes for vLLM."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.flags import given

if TYPE_CHECKING:
    from isthmus.cloud.serving.config import ServingConfig

EXAMPLE = """
Example: isthmus cloud serving --config cloud.toml --flags
"""


def serving(
    config: Annotated[
        Path | None, typer.Option(help="The gateway's TOML file, with its section `serving`.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What to serve (default: the file's backend.model).")
    ] = None,
    flags: Annotated[bool, typer.Option(help="Print the command that starts the server.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the engine arguments that the section `serving` becomes, checked against vLLM."""
    from isthmus.cloud.config import CloudConfig
    from isthmus.cloud.serving.arguments import engine_arguments, serve_flags

    behind = given({"model": model})
    settings = CloudConfig.load(config, {"backend": behind} if behind else None)
    version = _checked(settings.serving)
    words = serve_flags(settings.backend.model, settings.serving)
    arguments = engine_arguments(settings.serving)
    if json_:
        told = {
            "model": settings.backend.model,
            "arguments": arguments,
            "flags": words,
            "checked_against": version,
        }
        typer.echo(json.dumps(told))
    elif flags:
        typer.echo(shlex.join(["vllm", "serve", *words]))
    else:
        for name, value in arguments.items():
            typer.echo(f"{name} = {json.dumps(value)}")


def _checked(serving: ServingConfig) -> str | None:
    """The version of vLLM that takes these settings; None where none is installed.

    Raises `ConfigError` for a setting that it does not take.
    """
    from isthmus.cloud.serving.installed import installed
    from isthmus.core.errors import Unavailable

    try:
        engine = installed()
    except Unavailable:
        typer.echo("not checked: no vLLM is installed here", err=True)
        return None
    engine.check(serving)
    return engine.version
