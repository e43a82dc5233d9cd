"""What commands share: flags that become settings, addresses given and shown, the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.core.addresses import split
from isthmus.core.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.edge.config import EdgeConfig


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def split_flag(flag: str, address: str) -> tuple[str, int]:
    """Host and port of an address that was given with `flag`. Raises `ConfigError`."""
    try:
        return split(address)
    except ValueError as error:
        raise ConfigError(f"{flag} {error}", field=flag) from None


def agent_settings(
    path: Path | None,
    *,
    listen: str | None,
    model: str | None,
    backend: str | None,
    threads: int | None,
    gateway: str | None,
) -> EdgeConfig:
    """The agent's settings: flags over the environment over the file. Raises `ConfigError`."""
    from isthmus.edge.config import EdgeConfig

    host, port = split_flag("--listen", listen) if listen else (None, None)
    flags = {
        "host": host,
        "port": port,
        "model": model,
        "backend": backend,
        "threads": threads,
        "gateway_address": gateway,
    }
    return EdgeConfig.load(path, given(flags))


def backends(prefill: str, decode: str) -> str:
    """What computes prompts and what writes answers, in words."""
    return decode if prefill == decode else f"{prefill} (prefill) and {decode} (decode)"


def url_of(host: str, port: int) -> str:
    """The address to open in a client."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def page_of(url: str, settings: EdgeConfig) -> str:
    """The address to open in a browser. The token is told to nobody."""
    return f"{url}/" if settings.token is None else f"{url}/ (the page asks for the token)"


def log_to_stderr(*, verbose: bool) -> None:
    """Warnings, or with `verbose` everything of ours, on stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("isthmus").setLevel(logging.INFO if verbose else logging.WARNING)
