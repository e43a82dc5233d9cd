"""Bundles on the device: checked, used at once, kept, and gone back from.

A bundle is taken whole or not at all: signature, format and sequence are checked first, then every
part is read, then the router file is judged on the device's shadow set; only then anything changes.
What is refused leaves the device as it was, and the gateway hears why. A bundle with which the
agent does not live long, several times, is given up for the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from isthmus.core.bundle import Bundle, BundleRefused, BundleState, PinnedKeys, SignedBundle
from isthmus.core.errors import ConfigError
from isthmus.core.money import Price
from isthmus.edge.fleet.held import Held, HeldBundles
from isthmus.edge.fleet.parts import Parts, checked, crashes, read, read_kept
from isthmus.edge.fleet.policy import differences
from isthmus.edge.trained import Taken, Trained
from isthmus.router.config import RouterConfig

log = logging.getLogger(__name__)

SETTLED_S: Final = 20.0
"""Whoever lived so long with a bundle has not crashed by it."""


class Tuned(Protocol):
    """What a bundle may change (`isthmus.edge.agent.Agent`)."""

    trained: Trained

    def use_policy(self, router: RouterConfig, price: Price | None = None) -> None: ...


class Bundles:
    """The bundle in use. For one event loop."""

    def __init__(
        self,
        agent: Tuned,
        own: RouterConfig,
        keys: PinnedKeys,
        kept: HeldBundles,
        *,
        software: str,
        on_change: Callable[[Held], None] = lambda held: None,
    ) -> None:
        """`own`: the device's settings; `on_change` hears of every bundle that was tried."""
        self._agent = agent
        self._own = own
        self._keys = keys
        self._kept = kept
        self._software = software
        self._on_change = on_change
        self._settling: asyncio.Task[None] | None = None
        self.held = Held()

    async def start(self) -> None:
        """Use the bundle that was in use before the restart, as far as it still can be."""
        self.held = held = await asyncio.to_thread(self._kept.read)
        if held.tried and held.software != self._software and held.state is not BundleState.IN_USE:
            # Newer software may be able to do what the older one was not.
            self.held = replace(held, tried=0, state=None, problem="")
        if crashes(held):
            why = f"the agent ended {held.starts} times within {SETTLED_S:g} s of its start"
            await self._go_back(BundleRefused(why, BundleState.CRASHED))
        elif held.sequence:
            try:
                await asyncio.to_thread(self._count_start)
                await self._use(await asyncio.to_thread(self._read_kept, held.sequence))
            except BundleRefused as error:
                await self._go_back(error)
        self._on_change(self.held)
        self._settling = asyncio.create_task(self._settle(), name="isthmus-bundle-settles")

    async def take(self, signed: SignedBundle) -> None:
        """Use `signed` from now on, if it is right in every way; note what became of it."""
        sequence = 0
        try:
            bundle = await asyncio.to_thread(checked, signed, self._keys)
            sequence = bundle.sequence
            if sequence == self.held.tried:
                return
            self._check_sequence(bundle)
            await self._change_to(bundle, signed)
        except BundleRefused as error:
            await self._refuse(error, sequence or error.sequence)
        except ConfigError as error:
            log.warning("a bundle could not be kept, so it is not used: %s", error.message)
        self._on_change(self.held)

    async def use_own(self, own: RouterConfig) -> None:
        """The device's settings are others now. Raises `BundleRefused`, and nothing changes."""
        before, self._own = self._own, own
        try:
            await self._use_kept(self.held.sequence)
        except BundleRefused:
            self._own = before
            raise

    async def over(self, own: RouterConfig) -> RouterConfig:
        """What the bundle in use makes of `own`. Raises `BundleRefused`."""
        if not self.held.sequence:
            return own
        return (await asyncio.to_thread(self._read_kept, self.held.sequence, own)).router

    async def close(self) -> None:
        """An orderly end is no crash."""
        if self._settling is not None and not self._settling.done():
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
            await self._forget_starts()

    # --- one bundle ---------------------------------------------------------------------------

    def _check_sequence(self, bundle: Bundle) -> None:
        held = self.held
        # One that was given up may be tried again, by newer software.
        given_up = bundle.sequence == held.highest != held.sequence
        if bundle.sequence <= held.highest and not given_up:
            raise BundleRefused(
                f"bundle {bundle.sequence} is not above {held.highest}, which this device had "
                "already: a roll-back is a new bundle",
                BundleState.REPLAYED,
                field="sequence",
            )

    async def _change_to(self, bundle: Bundle, signed: SignedBundle) -> None:
        parts = await asyncio.to_thread(read, bundle, self._own)
        # What an operator goes back to was good enough once.
        judge = bundle.rolls_back_to is None
        await self._use(parts, judge=judge)
        held = Held(
            sequence=bundle.sequence,
            previous=self.held.sequence,
            highest=bundle.sequence,
            tried=bundle.sequence,
            state=BundleState.IN_USE,
            software=self._software,
        )
        try:
            await asyncio.to_thread(lambda: self._kept.write(held, new=signed))
        except ConfigError:
            await self._use_kept(self.held.sequence)
            raise
        self.held = held
        changed = ", ".join(differences(self._own, parts.router)) or "nothing of the policy"
        log.info("bundle %d is in use; it changes %s", bundle.sequence, changed)

    async def _use(self, parts: Parts, *, judge: bool = False) -> None:
        taken = await asyncio.to_thread(self._agent.trained.take, parts.file, judge=judge)
        if taken is Taken.WORSE:
            raise BundleRefused(
                "its router file does worse on the shadow set than the one in use",
                BundleState.WORSE,
                field="router_file",
            )
        await asyncio.to_thread(_keep_choices, parts.kernel_choices)
        self._agent.use_policy(parts.router, parts.price)

    async def _use_kept(self, sequence: int) -> None:
        """Use a bundle of before, or the device's own settings (0)."""
        await self._use(await asyncio.to_thread(self._read_kept, sequence))

    def _read_kept(self, sequence: int, own: RouterConfig | None = None) -> Parts:
        return read_kept(self._kept, sequence, own or self._own, self._keys)

    # --- refusals -----------------------------------------------------------------------------

    async def _refuse(self, error: BundleRefused, sequence: int) -> None:
        log.warning("bundle %s is refused (%s): %s", sequence or "?", error.state, error.message)
        # A sequence that nobody vouches for, or an old one, says nothing about the next.
        await self._note(replace(self.held, tried=max(sequence, self.held.tried)), error)

    async def _go_back(self, error: BundleRefused) -> None:
        """Give up the bundle in use for the one before it, or for the device's own settings."""
        held = self.held
        log.warning("bundle %d is given up (%s): %s", held.sequence, error.state, error.message)
        back_to = held.previous
        try:
            await self._use_kept(back_to)
        except BundleRefused as worse:
            log.warning("nor can bundle %d be used: %s", back_to, worse.message)
            back_to = 0
            await self._use_kept(0)
        given_up = replace(held, sequence=back_to, previous=0, tried=held.sequence, starts=0)
        await self._note(given_up, error)

    async def _note(self, held: Held, error: BundleRefused) -> None:
        self.held = replace(
            held, state=error.state, problem=error.field or "", software=self._software
        )
        try:
            await asyncio.to_thread(self._kept.write, self.held)
        except ConfigError as failed:
            log.warning("%s", failed.message)

    # --- whether it lives ---------------------------------------------------------------------

    def _count_start(self) -> None:
        self.held = replace(self.held, starts=self.held.starts + 1)
        with contextlib.suppress(ConfigError):
            self._kept.write(self.held)

    async def _settle(self) -> None:
        await asyncio.sleep(SETTLED_S)
        await self._forget_starts()

    async def _forget_starts(self) -> None:
        if self.held.starts:
            self.held = replace(self.held, starts=0)
            with contextlib.suppress(ConfigError):
                await asyncio.to_thread(self._kept.write, self.held)


def _keep_choices(text: str) -> None:
    from isthmus.engine.choices import keep_fleet_choices

    try:
        keep_fleet_choices(text)
    except ConfigError as error:
        # They make kernels quicker: the policy that came with them holds without.
        log.warning("%s", error.message)
