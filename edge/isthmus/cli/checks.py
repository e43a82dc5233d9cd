"""What `isthmus doctor` looks at for the agent: its settings, home, model, page and gateway."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.edge.config import EdgeConfig

_GATEWAY = "127.0.0.1:50051"
"""Where `isthmus up` and `isthmus cloud serve` listen, for an agent that was told of none."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    cure: str = ""
    """What to do, when there is something to do."""
    needed: bool = True
    """Whether nothing works without it."""


def settings(
    path: Path | None, *, model: str | None, gateway: str | None
) -> tuple[EdgeConfig | None, Check]:
    """What the agent would start with; None where it would not start."""
    from isthmus.cli.flags import agent_settings
    from isthmus.core.errors import ConfigError

    try:
        loaded = agent_settings(
            path, listen=None, model=model, backend=None, threads=None, gateway=gateway
        )
    except ConfigError as error:
        return None, Check("settings", False, "the agent does not start with them", error.message)
    where = str(path) if path is not None else "no file, so the defaults and the environment"
    reach = "this machine alone" if loaded.on_loopback else "the network, with a token"
    return loaded, Check("settings", True, f"{where}; for {reach}")


def home() -> Check:
    """Whether models and conversations can be kept."""
    from isthmus.core import paths

    folder = paths.home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    told = str(folder) if writable else f"{folder} cannot be written, for {existing} cannot"
    cure = f"make {existing} a folder that you may write, or set ISTHMUS_HOME to another"
    return Check("home", writable, told, cure)


def ledger() -> Check:
    """Whether the agent can use what it wrote down: it does not start with a damaged ledger."""
    from isthmus.core.errors import ConfigError
    from isthmus.edge.ledger import check_ledger, ledger_path

    path = ledger_path()
    if not path.exists():
        return Check("ledger", True, "not begun yet")
    try:
        check_ledger(path)
    except ConfigError as error:
        return Check("ledger", False, "the agent does not start with it", error.message)
    return Check("ledger", True, str(path))


def model(name: str) -> Check:
    """Whether the device's model is here."""
    from isthmus.core.errors import IsthmusError
    from isthmus.engine.sources.catalogue import locate, resolve

    try:
        path = locate(resolve(name))
    except IsthmusError as error:
        return Check("model", False, f"{name!r} names none", error.message)
    if path is None:
        pull = f"isthmus model pull {name}"
        return Check("model", False, f"{name} is not on this machine", pull)
    return Check("model", True, f"{name}: {path}")


def page() -> Check:
    """Whether the page has what it is made of; the agent answers without it."""
    from isthmus.edge.page.libraries import CURE, missing

    lacking = missing()
    told = f"lacks {', '.join(lacking)}" if lacking else "whole"
    # Of this environment, which need not be the one that the shell calls python.
    cure = CURE.replace("python", sys.executable, 1)
    return Check("page", not lacking, told, cure, needed=False)


def gateway(settings: EdgeConfig) -> Check:
    """Whether the cloud's gateway answers; the device answers alone without one."""
    import asyncio

    from isthmus.core.errors import IsthmusError
    from isthmus.core.tier import ModelInfo
    from isthmus.edge.gateway import gateway_of
    from isthmus.edge.remote import RemoteTier

    address = settings.gateway_address or _GATEWAY

    async def ask() -> ModelInfo:
        tier = RemoteTier(gateway_of(address, settings))
        try:
            return await tier.info()
        finally:
            await tier.close()

    try:
        info = asyncio.run(ask())
    except IsthmusError as error:
        cure = "isthmus up, or isthmus cloud serve (the device answers alone without one)"
        return Check("gateway", False, error.message, cure, needed=False)
    return Check("gateway", True, f"{address}: {info.model} ({info.backend})", needed=False)
