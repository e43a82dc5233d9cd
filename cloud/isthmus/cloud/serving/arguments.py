"""`[serving]` compiled: to vLLM's engine arguments, and to the words of `vllm serve`.

Nothing here knows vLLM; `installed` compares what comes out with the vLLM that is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isthmus.cloud.serving.config import ServingConfig
from isthmus.cloud.serving.table import settings


def engine_arguments(serving: ServingConfig) -> dict[str, Any]:
    """The keyword arguments of `AsyncEngineArgs`, but for the model."""
    arguments: dict[str, Any] = {}
    for setting in settings(serving):
        argument, value = setting.argument, setting.value
        if argument.key:
            arguments.setdefault(argument.name, {})[argument.key] = value
        else:
            arguments[argument.name] = value
    return arguments


def serve_flags(model: str, serving: ServingConfig) -> list[str]:
    """The words after `vllm serve` that start a server like that."""
    words = [model]
    for name, value in engine_arguments(serving).items():
        words += _flag(name, value)
    if serving.tool_call_parser is not None:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", serving.tool_call_parser]
    return words


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    match value:
        case True:
            return [f"--{flag}"]
        case False:
            return [f"--no-{flag}"]
        case Mapping():
            return [f"--{flag}", json.dumps(value, separators=(",", ":"))]
        case list():
            return [f"--{flag}", *map(str, value)]
        case _:
            return [f"--{flag}", str(value)]
