"""The trained file that decisions rest on, and the pair of models that it is asked about.

A file of the user's own is looked at every few seconds and taken over while the agent runs. One
that cannot be read is refused, and so is one that does worse than the file in use on the shadow
set, graded prompts that the user keeps for this: the agent stays with what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core.chat import ChatRequest, Message, Role, TextPart
from isthmus.core.errors import ConfigError, InvalidRequest, IsthmusError
from isthmus.core.tier import ModelInfo
from isthmus.router.doubt.answer_files import read_rows
from isthmus.router.doubt.second_look import SECTION, Build, SecondLook
from isthmus.router.learned import router_file
from isthmus.router.learned.measures import apgr
from isthmus.router.learned.pair import Pair
from isthmus.router.learned.router_file import RouterFile
from isthmus.router.quality import Quality, estimate

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often the file is looked at."""


class Taken(StrEnum):
    """What became of a file."""

    LOADED = "loaded"
    BROKEN = "broken"
    """It cannot be read; the one before stays."""
    WORSE = "worse"
    """It does worse on the shadow set; the one before stays."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A prompt of the shadow set, and who was right."""

    request: ChatRequest
    edge: float
    cloud: float


class Trained:
    """The file in use. `rate` and `pair` are for one event loop; the rest may block."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        shadow_set: Sequence[Graded] = (),
        edge_sha256: Callable[[], str] = lambda: "",
        on_file: Callable[[Taken, str], None] = lambda taken, version: None,
    ) -> None:
        """`path`: the user's own file, None for the one that ships; `edge_sha256`: of the device's
        model, blocking; `on_file` hears of every file that was tried, with the version in use.

        Raises `ConfigError` when the file cannot be read now.
        """
        self.file = router_file.shipped() if path is None else router_file.load(path)
        self._own = self.file
        self._fleets: RouterFile | None = None
        self.second_look: SecondLook | None = None
        self._path = path
        self._shadow_set = shadow_set
        self._edge_sha256 = edge_sha256
        self._on_file = on_file
        self._edge = ""
        self._seen = _stamp(path)
        self._looking: asyncio.Task[None] | None = None
        on_file(Taken.LOADED, self.file.version)

    def start(self) -> None:
        """Learn which model the device has, and begin to look at the file. Needs a loop."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._watch(), name="isthmus-trained-file")

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def pair(self, cloud: ModelInfo | None) -> Pair | None:
        """The device's model and the cloud's; None while one of them is not known."""
        if cloud is None or not self._edge:
            return None
        return Pair(self._edge, cloud.sha256 or cloud.model)

    def rate(self, request: ChatRequest, cloud: ModelInfo | None) -> Quality:
        """The quality to expect of each tier's answer."""
        return estimate(request, self.file, self.pair(cloud))

    async def _watch(self) -> None:
        await asyncio.to_thread(self._know_edge)
        while self._path is not None:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def _know_edge(self) -> None:
        try:
            self._edge = self._edge_sha256()
        except (OSError, IsthmusError) as error:
            log.warning("the device's model has no checksum: %s", type(error).__name__)
        self._read_second_look(self.file)

    def look(self) -> None:
        """Take the file over if it is another one by now. Blocking."""
        stamp = _stamp(self._path)
        if self._path is None or stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            new = router_file.load(self._path)
        except ConfigError as error:
            log.warning("the trained file stays as it was: %s", error.message)
            self._on_file(Taken.BROKEN, self.file.version)
            return
        if self._worse(new, self._own):
            self._on_file(Taken.WORSE, self.file.version)
            return
        self._own = new
        if self._fleets is None:
            self._use(new)

    def take(self, fleets: RouterFile | None, *, judge: bool = True) -> Taken:
        """Use the operator's file in the place of the device's own, or none any more. Blocking.

        With `judge` one that does worse on the shadow set than the file in use is not taken.
        """
        if judge and fleets is not None and self._worse(fleets, self.file):
            self._on_file(Taken.WORSE, self.file.version)
            return Taken.WORSE
        self._fleets = fleets
        wanted = self._own if fleets is None else fleets
        if wanted.version != self.file.version:
            self._use(wanted)
        return Taken.LOADED

    def _use(self, file: RouterFile) -> None:
        self.file = file
        self._read_second_look(file)
        log.info("decisions rest on the trained file %s from now on", file.version)
        self._on_file(Taken.LOADED, file.version)

    def _worse(self, new: RouterFile, before: RouterFile) -> bool:
        after, now = self._figure(new), self._figure(before)
        if after < now:
            log.warning(
                "the trained file %s is not taken: APGR %.3f on the shadow set, %.3f before",
                new.version, after, now,
            )  # fmt: skip
        return after < now

    def _figure(self, file: RouterFile) -> float:
        """APGR on the shadow set, over the pairs that the file knows of this device."""
        if not self._shadow_set:
            return 0.5
        known = [c.pair for c in file.calibrations if c.pair.edge == self._edge]
        pair = known[0] if known else None
        gained = [estimate(one.request, file, pair).escalate for one in self._shadow_set]
        gains = [one.cloud - one.edge for one in self._shadow_set]
        return apgr(np.array(gained), np.array(gains))

    def _read_second_look(self, file: RouterFile) -> None:
        try:
            self.second_look = SecondLook.of(file.sections.get(SECTION), Build(self._edge))
        except ValueError as error:
            log.warning("there is no second look: %s", error)
            self.second_look = None


def read_shadow_set(path: Path | None) -> tuple[Graded, ...]:
    """The rows of `isthmus route label` that both tiers answered. Raises `ConfigError`."""
    if path is None:
        return ()
    try:
        return tuple(_graded(row) for row in read_rows(path) if "cloud_correct" in row)
    except InvalidRequest as error:
        why = error.message
    except (ValueError, KeyError, TypeError) as error:
        why = f"{path.name} is not what isthmus route label writes ({type(error).__name__})"
    raise ConfigError(why, field="router_shadow_set")


def _graded(row: Mapping[str, Any]) -> Graded:
    message = Message(Role.USER, (TextPart(str(row["prompt"])),))
    request = ChatRequest(request_id="shadow-set", messages=(message,))
    return Graded(request, float(row["edge_correct"]), float(row["cloud_correct"]))


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        return None if path is None else ((s := path.stat()).st_mtime_ns, s.st_size)
    except OSError:
        return None
