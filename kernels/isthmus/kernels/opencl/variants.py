"""Algorithms with values for their tunables: what the tuner chooses from, and what is chosen.

A variant is written `gemv.n:block=16,lanes=16,split=1,wgs=1`; `Variant.parse` reads that again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from isthmus.kernels.opencl.algorithms import ALGORITHMS, Algorithm, Size
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.layouts import Layout, WeightForm

_SHAPE = re.compile(r"([1-9]\d{0,8})x([1-9]\d{0,8})\.([48])g(16|32|64|128)(s)?")

TILES = (1, 4, 8, 16, 64)
"""Sizes of a step for which a variant is chosen: the smallest that is not below it, or the last."""


@dataclass(frozen=True, slots=True)
class Variant:
    """An algorithm with a value for each of its tunables."""

    algorithm: Algorithm
    values: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        # What is 0 is off, and off by default.
        return f"{self.algorithm.name}:{','.join(f'{k}={v}' for k, v in self.values if v)}"

    @classmethod
    def of(cls, name: str, **values: int) -> Variant:
        """A variant of a named algorithm; tunables not named have their first value."""
        algorithm = ALGORITHMS[name]
        unknown = values.keys() - algorithm.options.keys()
        if unknown:
            raise ValueError(f"{name} has no tunable {', '.join(sorted(unknown))}")
        chosen = {key: values.get(key, options[0]) for key, options in algorithm.options.items()}
        return cls(algorithm, tuple(sorted(chosen.items())))

    @classmethod
    def parse(cls, text: str) -> Variant:
        """The variant that `str` wrote. Raises ValueError for what is none."""
        name, _, rest = text.partition(":")
        if name not in ALGORITHMS:
            raise ValueError(f"{name!r} is not one of {', '.join(ALGORITHMS)}")
        pairs = (item.partition("=") for item in rest.split(",") if item)
        try:
            return cls.of(name, **{key: int(value) for key, _, value in pairs})
        except ValueError as error:
            raise ValueError(f"{text!r} is not a variant: {error}") from error

    @property
    def tunables(self) -> dict[str, int]:
        """The values by name."""
        return dict(self.values)

    @property
    def tokens(self) -> int:
        """Tokens of a work-group: 1 for a GEMV."""
        return self.tunables["tokens"]

    @property
    def layout(self) -> Layout:
        """How it wants its weights."""
        return Layout(self.algorithm.block(self.tunables), self.algorithm.image)

    @property
    def defines(self) -> dict[str, int]:
        """The defines of its tunables."""
        named = {key.upper(): value for key, value in self.values}
        return {**named, **(self.algorithm.fixed or {})}

    @property
    def verified(self) -> bool:
        """Whether a device of ours runs it. Others are chosen once their self-test has passed."""
        return not (self.tunables.get("fp16") or self.tunables.get("sub"))

    @property
    def local(self) -> Size:
        """Work-items of a group."""
        return self.algorithm.local(self.tunables)

    def groups(self, rows: int) -> int:
        """Work-groups along `rows`."""
        return -(-rows // self.algorithm.group_rows(self.tunables))

    def norms(self, form: WeightForm, device: Capabilities) -> bool:
        """Whether it can norm the residual stream of one token on the way into this product."""
        algorithm = self.algorithm
        floats = algorithm.local_floats(self.tunables, form)
        floats += algorithm.norm_floats(self.tunables, form)
        return algorithm.norms and 4 * floats <= device.local_bytes

    def misfit(self, form: WeightForm, device: Capabilities, *, paired: bool) -> str | None:
        """Why it cannot be used for this weight on this device, or None when it can.

        `paired` asks for SwiGLU at the end, for which two neighbouring rows must meet.
        """
        algorithm, tunables, local = self.algorithm, self.tunables, self.local
        if local[0] * local[1] * local[2] > device.work_group:
            return f"groups have at most {device.work_group} work-items"
        if 4 * algorithm.local_floats(tunables, form) > device.local_bytes:
            return f"local memory has {device.local_bytes} bytes"
        if (algorithm.image or tunables.get("x_image")) and not device.image_size[0]:
            return "the device has no images"
        if algorithm.image and form.words > device.image_size[0]:
            return f"images are at most {device.image_size[0]} wide"
        if tunables.get("fp16") and not device.fp16:
            return "the device does not compute in half precision"
        sub = tunables.get("sub", 0)
        if sub and not device.subgroups:
            return "the device has no sub-groups"
        if sub > 1 and (sub not in device.subgroups or len(device.subgroups) == 1):
            return "the device has no choice of sub-groups of this size"
        if paired and 1 in (tunables.get("lanes"), tunables.get("rows")):
            return "a gate and its value would lie in two work-items"
        return algorithm.rule(tunables, form)


def variants(tile: int) -> Iterator[Variant]:
    """Every variant that may serve steps of `tile` tokens: as many tokens a group, or fewer."""
    for algorithm in ALGORITHMS.values():
        options = {**algorithm.options}
        options["tokens"] = tuple(tokens for tokens in options["tokens"] if tokens <= tile)
        for values in product(*options.values()):
            yield Variant.of(algorithm.name, **dict(zip(options, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Choices:
    """Which variant a weight gets, for each tile. All of a weight's share its layout."""

    table: Mapping[tuple[str, int], Variant]
    """By the key of a form and tile; what is not there gets `default`."""
    default: Mapping[int, Variant]
    """By tile."""

    @property
    def identity(self) -> str:
        """Names the layouts, for weights kept on disk; the same for all that lie as by default."""
        chosen = {
            f"{key}={variant.layout}"
            for (key, tile), variant in self.table.items()
            if variant.layout != self.default[tile].layout
        }
        chosen |= {f"{tile}={variant.layout}" for tile, variant in self.default.items()}
        return ";".join(sorted(chosen))

    def variant(self, form: WeightForm, tile: int) -> Variant:
        """The variant of a weight for a tile."""
        return self.table.get((shape_key(form), tile), self.default[tile])


def uniform_choices(gemv: str, gemm: str, *, most: int = 16) -> Choices:
    """The same algorithms for every weight; `gemm` is written without its tokens, at `most`."""
    several = {tile: Variant.parse(f"{gemm},tokens={min(tile, most)}") for tile in TILES[1:]}
    return Choices({}, {1: Variant.parse(gemv), **several})


def shape_key(form: WeightForm) -> str:
    """A weight's form as it stands in a file of choices: `3072x576.4g32`."""
    return f"{form.rows}x{form.cols}.{form.bits}g{form.group}{'s' if form.symmetric else ''}"


def parse_shape(key: str) -> WeightForm:
    """The form that `shape_key` wrote. Raises ValueError for what is none."""
    found = _SHAPE.fullmatch(key)
    if found is None:
        raise ValueError(f"{key!r} is not a form like 3072x576.4g32")
    rows, cols, bits, group = map(int, found.groups()[:4])
    return WeightForm(rows, cols, bits, group, found[5] is not None)


def default_choices(device: Capabilities) -> Choices:
    """What to use before anything was measured."""
    if device.kind is DeviceKind.CPU:
        gemm = {t: Variant.of("gemm.n", tokens=min(t, 16)) for t in TILES[1:]}
        return Choices({}, {1: Variant.of("gemv.n", blocks=8), **gemm})
    wide = {"block": 64, "lanes": 2, "wgs": 32}
    gemm = {t: Variant.of("gemm.n", **wide, tokens=min(t, 16)) for t in TILES[1:]}
    small = device.work_group < 128
    return Choices({}, {1: Variant.of("gemv.n", **wide, split=2 if small else 4), **gemm})


def plain_variant(layout: Layout, tile: int) -> Variant:
    """A variant for weights in this order that asks nothing else of a device."""
    kind, tokens = ("gemv", 1) if tile == 1 else ("gemm", min(tile, 16))
    if layout.block >= 16:
        return Variant.of(f"{kind}.n", block=layout.block, tokens=tokens)
    order = "k" if layout.block == 1 else "k8n4"
    return Variant.of(f"{kind}.{order}{'.img' if layout.image else ''}", wgs=8, tokens=tokens)


def substitutes(chosen: Variant, layout: Layout, tile: int) -> Iterator[Variant]:
    """The variant chosen for a weight, and what to take where a device refuses that one.

    What lies in another order than `layout` is left out: so is a variant that reads images where
    the weight had to be put into buffers. The last is a plain one.
    """
    name, values = chosen.algorithm.name, chosen.tunables
    plain_input = values | ({"x_image": 0} if "x_image" in values else {})
    others = [
        chosen,
        Variant.of(name, **plain_input),
        Variant.of(name.replace(".img", ""), **values),
        Variant.of(name.replace(".img", ""), **plain_input),
        plain_variant(layout, tile),
    ]
    yield from (variant for variant in dict.fromkeys(others) if variant.layout == layout)
