"""Which variants to try: a few seeds of every algorithm, then steps from the best of them.

All variants of a weight share a layout, so one token and many are searched over all layouts first;
the layout that serves both best is kept, and the other tiles are searched within it. Where one
token passes whole layers in one launch, the default's layout stays, which that launch reads best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from isthmus.kernels.opencl.algorithms import ALGORITHMS, Algorithm
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.layouts import Layout
from isthmus.kernels.opencl.variants import TILES, Variant
from isthmus.kernels.tuner.problem import Problem
from isthmus.kernels.tuner.trials import Outcome

_ENDS = (1, TILES[-1])
"""The tiles that decide about the layout: decoding, and prefill."""
_WEIGHT = {1: 2.0, 64: 1.0}
"""How much they count: an answer has far more steps of one token than of many."""
_FAR = 1.5
"""A layout with which decoding takes this much longer is out."""
_LAYOUTS = 2
_FINALISTS = 3
_TURNS = 3
_SAME = 1.03
"""A default that is this near the best stays."""

Try = Callable[[Problem, Variant, int], Outcome]


@dataclass(slots=True)
class Found:
    """What a search has seen of one problem."""

    problem: Problem
    outcomes: dict[int, dict[Variant, Outcome]] = field(
        default_factory=lambda: {tile: {} for tile in TILES}
    )
    choices: dict[int, Variant] = field(default_factory=dict)
    """For each tile; empty when no layout has a variant that works for all."""

    def ranked(self, tile: int, layout: Layout | None = None) -> list[Variant]:
        """What was right, quickest first."""
        timed = [
            (outcome.seconds, variant)
            for variant, outcome in self.outcomes[tile].items()
            if outcome.seconds is not None and layout in (None, variant.layout)
        ]
        return [variant for _, variant in sorted(timed, key=lambda pair: pair[0])]

    def seconds(self, tile: int, variant: Variant) -> float:
        """Of one launch."""
        return self.outcomes[tile][variant].seconds or float("inf")

    @property
    def rejected(self) -> dict[str, str]:
        """Variants that failed, with their reasons."""
        return {
            str(variant): outcome.error
            for outcomes in self.outcomes.values()
            for variant, outcome in outcomes.items()
            if outcome.error is not None
        }

    @property
    def tried(self) -> int:
        """How many variants were tried, over all tiles."""
        return sum(map(len, self.outcomes.values()))


class Search:
    """The search for one problem on one device.

    `attempt` tries a variant, `over` says from 0 to 1 how much of the time is gone. `first` are
    variants to begin with for a tile: the default first, then what has served others.
    """

    def __init__(
        self,
        problem: Problem,
        device: Capabilities,
        attempt: Try,
        over: Callable[[], float],
        first: Mapping[int, Iterable[Variant]],
    ) -> None:
        self.found = Found(problem)
        self._device = device
        self._attempt = attempt
        self._over = over
        self._first = first

    def run(self) -> Found:
        """Search until the time is up; what every tile needs is tried even then."""
        layout = self._default_layout() if self.found.problem.joined else None
        if layout is None:
            for tile, share in zip(_ENDS, (0.3, 0.55), strict=True):
                self._explore(tile, self._beginning(tile, None), until=share)
            self._climb(_ENDS[0], None, until=0.65)
            self._climb(_ENDS[1], None, until=0.75)
            layout = self._layout()
            if layout is None:
                return self.found
        else:
            self._explore(_ENDS[1], self._beginning(_ENDS[1], layout), until=0.5)
            self._climb(_ENDS[1], layout, until=0.75)
        others = [tile for tile in TILES if tile not in _ENDS]
        for tile, share in zip(reversed(others), (0.82, 0.88, 0.94), strict=True):
            self._explore(tile, self._beginning(tile, layout), until=share)
            self._climb(tile, layout, until=share)
        for tile in TILES:
            self._settle(tile, layout)
        if len(self.found.choices) < len(TILES):
            self.found.choices.clear()
        return self.found

    def _beginning(self, tile: int, layout: Layout | None) -> list[Variant]:
        given = list(self._first.get(tile, ()))
        # What served more tokens serves fewer, with a smaller tile.
        larger = [bigger for bigger in reversed(TILES) if bigger > tile > 1]
        for bigger in larger:
            for variant in self.found.ranked(bigger, layout)[:2]:
                given += [v for v in _with_tokens(variant, tile) if v.tokens <= tile][:2]
        given += list(seeds(tile, self._device))
        return [v for v in dict.fromkeys(given) if layout in (None, v.layout)]

    def _explore(self, tile: int, variants: Iterable[Variant], *, until: float) -> None:
        for variant in variants:
            if self._over() >= until and self.found.ranked(tile):
                return
            self._one(tile, variant)

    def _climb(self, tile: int, layout: Layout | None, *, until: float) -> None:
        """Change one tunable at a time for as long as that helps."""
        while best := self.found.ranked(tile, layout)[:1]:
            for variant in neighbours(best[0]):
                if self._over() >= until:
                    return
                if variant.tokens <= tile and layout in (None, variant.layout):
                    self._one(tile, variant)
            if self.found.ranked(tile, layout)[:1] == best:
                return

    def _one(self, tile: int, variant: Variant) -> None:
        problem = self.found.problem
        if variant in self.found.outcomes[tile] or (variant.tokens == 1) != (tile == 1):
            return
        if variant.misfit(problem.form, self._device, paired=problem.paired) is None:
            self.found.outcomes[tile][variant] = self._attempt(problem, variant, tile)

    def _layout(self) -> Layout | None:
        """The layout that costs least over one token and many; the default's, if it is as good.

        The best of those that come near are timed again, in turns.
        """
        one, many = _ENDS
        ranked = self.found.ranked(one)
        near = [
            variant
            for variant in ranked
            if self.found.seconds(one, variant) <= _FAR * self.found.seconds(one, ranked[0])
        ]
        default = self._default_layout()
        layouts = list(dict.fromkeys(variant.layout for variant in near))[:_LAYOUTS]
        if default is not None and default not in layouts and self.found.ranked(one, default):
            layouts.append(default)
        best: dict[Layout, dict[int, Variant]] = {}
        for layout in layouts:
            if not self.found.ranked(many, layout):
                self._explore_within(many, layout)
            firsts = {tile: self.found.ranked(tile, layout)[:1] for tile in _ENDS}
            if all(firsts.values()):
                best[layout] = {tile: first[0] for tile, first in firsts.items()}
        if len(best) > 1:
            for tile in _ENDS:
                self._again(tile, [variants[tile] for variants in best.values()])
        costs = {
            layout: sum(
                _WEIGHT[tile]
                * self.found.seconds(tile, variant)
                / min(self.found.seconds(tile, others[tile]) for others in best.values())
                for tile, variant in variants.items()
            )
            for layout, variants in best.items()
        }
        if default in costs and costs[default] <= _SAME * min(costs.values()):
            return default
        return min(costs, key=costs.__getitem__, default=None)

    def _default_layout(self) -> Layout | None:
        return next((variant.layout for variant in self._first.get(_ENDS[0], ())), None)

    def _again(self, tile: int, variants: Sequence[Variant]) -> None:
        """Time some variants again, in turns: one figure may be luck."""
        again: dict[Variant, list[float]] = {variant: [] for variant in variants}
        for _ in range(_TURNS):
            for variant in variants:
                outcome = self._attempt(self.found.problem, variant, tile)
                again[variant].append(outcome.seconds or float("inf"))
        for variant, seconds in again.items():
            middle = Outcome(seconds=sorted(seconds)[_TURNS // 2])
            self.found.outcomes[tile][variant] = middle

    def _explore_within(self, tile: int, layout: Layout) -> None:
        """Look for one variant at least that reads a layout."""
        for variant in self._beginning(tile, layout):
            self._one(tile, variant)
            if self.found.ranked(tile, layout):
                return

    def _settle(self, tile: int, layout: Layout) -> None:
        """Time the best again, in turns with the default, and choose."""
        if not self.found.ranked(tile, layout):
            self._explore_within(tile, layout)
        finalists = self.found.ranked(tile, layout)[:_FINALISTS]
        default = next(iter(self._first.get(tile, ())), None)
        if default in self.found.ranked(tile, layout) and default not in finalists:
            finalists.append(default)
        if len(finalists) > 1:
            self._again(tile, finalists)
            finalists.sort(key=lambda variant: self.found.seconds(tile, variant))
        if finalists:
            best = self.found.seconds(tile, finalists[0])
            stays = default in finalists and self.found.seconds(tile, default) <= best * _SAME
            self.found.choices[tile] = default if default is not None and stays else finalists[0]


def seeds(tile: int, device: Capabilities) -> Iterator[Variant]:
    """One or two variants of every algorithm and layout, as such devices mostly want them.

    One of each algorithm comes first: time may end before the last.
    """
    each = [list(_seeds_of(algorithm, tile, device)) for algorithm in ALGORITHMS.values()]
    for turn in zip_longest(*each):
        yield from (variant for variant in turn if variant is not None)


def _seeds_of(algorithm: Algorithm, tile: int, device: Capabilities) -> Iterator[Variant]:
    fits = [tokens for tokens in algorithm.options["tokens"] if tokens <= tile]
    if not fits or (tile == 1) != (max(algorithm.options["tokens"]) == 1):
        return
    usual = _usual(algorithm, cpu=device.kind is DeviceKind.CPU)
    usual["tokens"] = max(tokens for tokens in fits if tokens <= 16)
    better = _extensions(algorithm, device)
    for block in algorithm.options.get("block", (0,)):
        values = usual | ({"block": block} if block else {})
        if better:
            yield Variant.of(algorithm.name, **values | better)
        yield Variant.of(algorithm.name, **values)


def _usual(algorithm: Algorithm, *, cpu: bool) -> dict[str, int]:
    wanted = {"wgs": 1, "lanes": 16, "rows": 4} if cpu else {"wgs": 32, "lanes": 2, "split": 4}
    return {
        name: min(algorithm.options[name], key=lambda option: abs(option - value))
        for name, value in wanted.items()
        if name in algorithm.options
    }


def _extensions(algorithm: Algorithm, device: Capabilities) -> dict[str, int]:
    """What the device has beyond the core, where the algorithm can use it."""
    has = {"fp16": device.fp16, "sub": bool(device.subgroups)}
    return {
        name: 1 for name, there in has.items() if there and 1 in algorithm.options.get(name, ())
    }


def neighbours(variant: Variant) -> Iterator[Variant]:
    """Variants of the same algorithm that differ in one tunable, in a size by one step."""
    for name, value in variant.values:
        options = sorted(variant.algorithm.options[name])
        if value not in options:
            continue
        at = options.index(value)
        near = options[at + 1 : at + 2] + options[max(0, at - 1) : at]
        if name == "sub":  # a device has some of the sizes
            near = [option for option in options if option != value]
        for option in near:
            yield Variant.of(variant.algorithm.name, **{**variant.tunables, name: option})


def _with_tokens(variant: Variant, tile: int) -> Iterator[Variant]:
    options = sorted((t for t in variant.algorithm.options["tokens"] if t <= tile), reverse=True)
    for tokens in options:
        yield Variant.of(variant.algorithm.name, **{**variant.tunables, "tokens": tokens})
