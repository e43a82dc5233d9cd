"""The algorithms of a product with their tunables.

To add one, write its kernel with product.h's arguments and an entry in `ALGORITHMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.kernels.opencl.layouts import WeightForm, padded

Tunables = Mapping[str, int]
Size = tuple[int, int, int]
_FP16 = (0, 1)
_SUB = (0, 1, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True, eq=False)
class Algorithm:
    """A kernel file and the values that its defines may have."""

    name: str
    file: str
    options: Mapping[str, tuple[int, ...]]
    """For each tunable the values to try. Its define is the name in capitals."""
    block: Callable[[Tunables], int]
    """Rows that the layout interleaves."""
    group_rows: Callable[[Tunables], int]
    """Rows of a work-group."""
    local: Callable[[Tunables], Size]
    """Work-items of a group."""
    local_floats: Callable[[Tunables, WeightForm], int] = lambda _t, _f: 0
    """Local memory of a group, in floats."""
    fixed: Mapping[str, int] | None = None
    """Defines that make this algorithm of a file that has several."""
    norms: bool = False
    """Whether it can norm the residual stream of one token on the way in (NORM)."""
    norm_floats: Callable[[Tunables, WeightForm], int] = lambda _t, _f: 0
    """Local memory that takes beside, in floats."""
    image: bool = False
    """Whether weights are read as an image."""
    rule: Callable[[Tunables, WeightForm], str | None] = lambda _t, _f: None
    """Why values do not go together, or with a weight."""


def _n_rule(tunables: Tunables, _form: WeightForm) -> str | None:
    if tunables["block"] % tunables["lanes"]:
        return "lanes must divide block"
    if tunables["blocks"] > 1 and tunables["split"] > 1:
        return "an item with several blocks does not split the columns"
    return None


def _n_contiguous(name: str, tokens: tuple[int, ...]) -> Algorithm:
    return Algorithm(
        name=name,
        file="product_n.cl",
        options={
            "block": (16, 32, 64, 128),
            "lanes": (16, 8, 4, 2, 1),
            "wgs": (1, 2, 4, 8, 16, 32, 64),
            "split": (1, 2, 4, 8),
            "blocks": (1, 4, 8),
            "fp16": _FP16,
            "tokens": tokens,
        },
        block=lambda t: t["block"],
        group_rows=lambda t: t["lanes"] * t["wgs"] * t["blocks"],
        local=lambda t: (t["wgs"], 1, t["split"]),
        local_floats=lambda t, _: t["split"] * t["wgs"] * t["tokens"] * t["lanes"],
        norm_floats=lambda t, f: padded(f.cols) + f.groups + t["split"] * t["wgs"] * t["lanes"],
        norms=tokens == (1,),
        rule=_n_rule,
    )


def _integers(name: str) -> Algorithm:
    return Algorithm(
        name=name,
        file="product_i.cl",
        options={
            "block": (16, 32, 64, 128),
            "blocks": (4, 1, 2, 8, 16),
            "portable": (0, 1),
            "tokens": (1,),
        },
        block=lambda t: t["block"],
        group_rows=lambda t: 16 * t["blocks"],
        local=lambda _: (1, 1, 1),
        local_floats=lambda _, f: f.padded_cols // 2 + 2 * f.groups,
        norms=True,
    )


def _k_rule(tunables: Tunables, _form: WeightForm) -> str | None:
    if tunables["sub"] and tunables["wgs"] < max(tunables["sub"], 8):
        return "a work-group is smaller than a sub-group"
    return None


def _k_contiguous(
    name: str, tokens: tuple[int, ...], *, rows: tuple[int, ...] = (4,), texel: int = 0
) -> Algorithm:
    gemv = tokens == (1,)
    return Algorithm(
        name=name,
        file="product_k.cl",
        options={
            "rows": rows,
            "wgs": (64, 32, 16, 8, 4, 2, 1, 128),
            "x_image": (0, 1),
            "staged": (0, 1) if gemv else (0,),
            "sub": _SUB if gemv else (0,),
            "fp16": _FP16,
            "tokens": tokens,
        },
        fixed={"TEXEL": texel},
        block=lambda _: 4 if texel else 1,
        group_rows=lambda t: t["rows"],
        local=lambda t: (t["wgs"], 1, 1),
        local_floats=lambda t, f: (
            t["wgs"] * t["rows"] * t["tokens"] + 2 * f.groups * t["rows"] * t["staged"]
        ),
        image=texel == 2,
        rule=_k_rule,
    )


def _tiled(name: str, blocks: tuple[int, ...], *, texel: int = 0) -> Algorithm:
    def rule(tunables: Tunables, _form: WeightForm) -> str | None:
        return "each must divide tokens" if tunables["tokens"] % tunables["each"] else None

    def local_floats(tunables: Tunables, form: WeightForm) -> int:
        rows = tunables["rows"] * tunables["wgs"]
        staged = 2 * form.groups * rows * tunables["staged"]
        return form.group * (rows + tunables["tokens"]) // (1 + tunables["fp16"]) + staged

    return Algorithm(
        name=name,
        file="product_tile.cl",
        options={
            "block": blocks,
            "rows": (4, 2),
            "each": (4, 2, 8),
            "wgs": (16, 8, 32),
            "staged": (0, 1),
            "fp16": _FP16,
            "tokens": (16, 8, 4, 32, 64),
        },
        fixed={"TEXEL": texel},
        block=lambda t: t["block"],
        group_rows=lambda t: t["rows"] * t["wgs"],
        local=lambda t: (t["wgs"], max(1, t["tokens"] // t["each"]), 1),
        local_floats=local_floats,
        image=texel == 2,
        rule=rule,
    )


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _n_contiguous("gemv.n", (1,)),
        _integers("gemv.i"),
        _n_contiguous("gemm.n", (4, 8, 16, 2)),
        _k_contiguous("gemv.k", (1,), rows=(4, 2, 1)),
        _k_contiguous("gemv.k8n4", (1,), texel=1),
        _k_contiguous("gemv.k8n4.img", (1,), texel=2),
        _tiled("gemm.n.local", (64, 32, 128)),
        _tiled("gemm.k.local", (1,)),
        _tiled("gemm.k8n4.local", (4,), texel=1),
        _tiled("gemm.k8n4.img.local", (4,), texel=2),
        _k_contiguous("gemm.k", (4, 2, 8, 16), rows=(4, 2, 1)),
        _k_contiguous("gemm.k8n4", (4, 2, 8, 16), texel=1),
        _k_contiguous("gemm.k8n4.img", (4, 2, 8, 16), texel=2),
    )
}
"""By name. GEMV is for one token, GEMM for several."""
