"""Devices of a fleet for tests: an agent that only notes what changes, and signed bundles."""

from __future__ import annotations

from typing import Any

from isthmus.core.bundle import Bundle, OperatorKey, PinnedKeys, SignedBundle
from isthmus.core.money import Price
from isthmus.core.wire.fleet import bundle_to_bytes
from isthmus.edge.trained import Trained
from isthmus.router.config import RouterConfig

KEY = OperatorKey.new()
PINNED = PinnedKeys.from_pem(KEY.public_pem())


class Tuned:
    """Stands for the agent."""

    def __init__(self, trained: Trained | None = None) -> None:
        self.trained = trained or Trained()
        self.router = RouterConfig()
        self.price: Price | None = None

    def use_policy(self, router: RouterConfig, price: Price | None = None) -> None:
        self.router, self.price = router, price


def signed(sequence: int, policy: str = "", key: OperatorKey = KEY, **more: Any) -> SignedBundle:
    """A bundle as a gateway hands it out; `policy` is what stands in its table `router`."""
    toml = f"[router]\n{policy}\n" if policy else ""
    bundle = Bundle(sequence, f"v{sequence}", policy_toml=toml, **more)
    return key.sign(bundle_to_bytes(bundle))
