"""A bundle read whole over the device's own settings, and the one that decides on this device."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isthmus.core.bundle import Bundle, BundleRefused, BundleState, PinnedKeys, SignedBundle
from isthmus.core.errors import ConfigError
from isthmus.core.money import Price
from isthmus.core.watched import read_bytes
from isthmus.core.wire.fleet import bundle_from_bytes
from isthmus.edge.fleet.held import Held, HeldBundles
from isthmus.edge.fleet.policy import tuned
from isthmus.router.config import RouterConfig
from isthmus.router.learned import router_file
from isthmus.router.learned.router_file import RouterFile

if TYPE_CHECKING:
    from isthmus.edge.config import EdgeConfig

log = logging.getLogger(__name__)

MOST_STARTS: Final = 3
"""How often the agent may begin with a bundle without living long."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What decides: a bundle's parts over the device's own settings, or those alone."""

    router: RouterConfig
    price: Price | None = None
    """The operator's; a price in the device's own settings stands over it."""
    file: RouterFile | None = None
    """The operator's; None: the device's own."""
    kernel_choices: str = ""
    bundle: Bundle | None = None
    """Whose parts they are."""


def checked(signed: SignedBundle, keys: PinnedKeys) -> Bundle:
    """The bundle, if a pinned key has signed it. Raises `BundleRefused`."""
    keys.check(signed)
    return bundle_from_bytes(signed.payload)


def read(bundle: Bundle, own: RouterConfig) -> Parts:
    """Every part of `bundle`. Raises `BundleRefused`."""
    file = None
    if bundle.router_file:
        try:
            file = router_file.from_bytes(bundle.router_file)
        except ValueError as error:
            why = f"its router file is none: {error}"
            raise BundleRefused(why, BundleState.BROKEN, field="router_file") from None
    if bundle.kernel_choices_json:
        from isthmus.engine.choices import check_fleet_choices

        try:
            check_fleet_choices(bundle.kernel_choices_json)
        except ConfigError as error:
            raise BundleRefused(
                error.message, BundleState.BROKEN, field="kernel_choices_json"
            ) from None
    router = tuned(own, bundle.policy_toml)
    return Parts(router, bundle.price, file, bundle.kernel_choices_json, bundle)


def check_parts(bundle: Bundle) -> None:
    """Raise `BundleRefused` for what any device would refuse."""
    read(bundle, RouterConfig())


def read_kept(kept: HeldBundles, sequence: int, own: RouterConfig, keys: PinnedKeys) -> Parts:
    """The parts of a bundle that was kept (0: none). Raises `BundleRefused`."""
    if not sequence:
        return Parts(own)
    signed = kept.bundle(sequence)
    if signed is None:
        raise BundleRefused("the bundle that was kept is gone", BundleState.BROKEN)
    return read(checked(signed, keys), own)


def crashes(held: Held) -> bool:
    """Whether the agent ends too soon, again and again, with the bundle in use."""
    return held.sequence > 0 and held.starts >= MOST_STARTS


def in_effect(config: EdgeConfig, folder: Path) -> Parts:
    """What an agent with these settings decides by, or would if it started now. Blocking.

    `folder` is where it keeps bundles. One that it would give up is passed over for the one before,
    as the agent does, and the log tells of it. Raises `ConfigError` for keys that cannot be read.
    """
    own = config.router
    kept = HeldBundles(folder)
    held = kept.read()
    if config.fleet.key_file is None:
        if held.sequence:
            log.warning(
                "bundle %d is kept here, but fleet.key_file pins no key for it", held.sequence
            )
        return Parts(own)
    keys = PinnedKeys.from_pem(read_bytes(config.fleet.key_file, "fleet.key_file"))
    for sequence in (held.previous,) if crashes(held) else (held.sequence, held.previous):
        try:
            return read_kept(kept, sequence, own, keys)
        except BundleRefused as error:
            log.warning("bundle %d is passed over (%s): %s", sequence, error.state, error.message)
    return Parts(own)
