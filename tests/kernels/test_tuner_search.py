"""The search, on a device that is a formula: it finds the planted best in few trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.kernels.opencl.layouts import Layout
from isthmus.kernels.opencl.products import Epilogue
from isthmus.kernels.opencl.variants import (
    TILES,
    Variant,
    default_choices,
    parse_shape,
    variants,
)
from isthmus.kernels.tuner.problem import Problem
from isthmus.kernels.tuner.search import Found, Search, neighbours, seeds
from isthmus.kernels.tuner.trials import Outcome
from opencl_devices import GPU

PROBLEM = Problem(parse_shape("3072x576.4g32"), Epilogue.SWIGLU, normed=True)
BEST = {"lanes": 4, "wgs": 16, "split": 2, "blocks": 1}


class Formula:
    """A device on which n-contiguous kernels of BEST in blocks of 128 are quickest."""

    def __init__(self) -> None:
        self.tried: list[tuple[Variant, int]] = []

    def __call__(self, _: Problem, variant: Variant, tile: int) -> Outcome:
        self.tried.append((variant, tile))
        if variant.algorithm.name == "gemv.k8n4.img":
            return Outcome(error="crashed (SIGSEGV)")
        seconds = 1.0
        for name, value in variant.values:
            if name in BEST:
                seconds *= 1 + 0.1 * abs(BEST[name].bit_length() - value.bit_length())
        if variant.layout != Layout(128):
            seconds *= 1.4
        if variant.algorithm.name not in ("gemv.n", "gemm.n"):
            seconds *= 10
        return Outcome(seconds=seconds * tile / variant.tokens)


def run(device: Formula, over: float) -> Found:
    first = {tile: [variant] for tile, variant in default_choices(GPU).default.items()}
    return Search(PROBLEM, GPU, device, lambda: over, first).run()


def test_the_best_is_found_in_a_hundredth_of_all() -> None:
    device = Formula()
    found = run(device, 0.0)
    assert {name: found.choices[1].tunables[name] for name in BEST} == BEST
    assert {variant.layout for variant in found.choices.values()} == {Layout(128)}
    assert all(found.choices[tile].tokens == min(tile, 16) for tile in TILES)
    everything = sum(1 for tile in TILES for _ in variants(tile))
    assert len(device.tried) < everything / 100


def test_what_failed_is_told_and_never_chosen() -> None:
    found = run(Formula(), 0.0)
    assert "crashed (SIGSEGV)" in found.rejected.values()
    assert all("k8n4.img" not in str(variant) for variant in found.choices.values())


def test_a_search_without_time_still_checks_what_it_chooses() -> None:
    device = Formula()
    found = run(device, 2.0)
    assert set(found.choices) == set(TILES)
    for tile, variant in found.choices.items():
        assert (variant, tile) in device.tried
    assert len(device.tried) < 60


def test_where_layers_are_joined_the_defaults_layout_stays_and_one_token_is_not_searched() -> None:
    device = Formula()  # which likes another layout better
    first = {tile: [variant] for tile, variant in default_choices(GPU).default.items()}
    found = Search(replace(PROBLEM, joined=True), GPU, device, lambda: 0.0, first).run()
    default = default_choices(GPU).default[1]
    assert found.choices[1] == default
    assert {variant.layout for variant in found.choices.values()} == {default.layout}
    assert all(variant.layout == default.layout for variant, _ in device.tried)
    assert [variant for variant, tile in device.tried if tile == 1] == [default]
    assert found.choices[64].tunables["wgs"] == BEST["wgs"]


def test_where_nothing_works_nothing_is_chosen() -> None:
    def broken(_: Problem, __: Variant, ___: int) -> Outcome:
        return Outcome(error="wrong")

    first = {tile: [variant] for tile, variant in default_choices(GPU).default.items()}
    found = Search(PROBLEM, GPU, broken, lambda: 0.0, first).run()
    assert not found.choices
    assert set(found.rejected.values()) == {"wrong"}


def test_the_default_stays_where_nothing_is_clearly_quicker() -> None:
    def flat(_: Problem, __: Variant, ___: int) -> Outcome:
        return Outcome(seconds=1.0)

    first = {tile: [variant] for tile, variant in default_choices(GPU).default.items()}
    found = Search(PROBLEM, GPU, flat, lambda: 0.0, first).run()
    assert found.choices == dict(default_choices(GPU).default)


def test_nothing_is_tried_that_the_device_cannot_run() -> None:
    device = Formula()
    limited = replace(GPU.limited(), image_size=(0, 0))
    first = {tile: [variant] for tile, variant in default_choices(limited).default.items()}
    Search(PROBLEM, limited, device, lambda: 0.0, first).run()
    for variant, _ in device.tried:
        assert variant.misfit(PROBLEM.form, limited, paired=True) is None


@pytest.mark.parametrize("tile", TILES)
def test_seeds_and_their_neighbours_are_variants_of_the_tile(tile: int) -> None:
    known = set(variants(tile))
    chosen = list(seeds(tile, GPU))
    assert len({variant.algorithm.name for variant in chosen}) >= 5
    assert set(chosen) <= known
    for variant in chosen:
        around = list(neighbours(variant))
        assert variant not in around
        for other in around:
            assert sum(a != b for a, b in zip(other.values, variant.values, strict=True)) == 1


def test_what_a_device_has_beyond_the_core_is_among_the_seeds_and_only_there() -> None:
    adreno = replace(GPU, subgroups=(64, 128))
    found = {(v.tunables.get("fp16"), v.tunables.get("sub")) for v in seeds(1, adreno)}
    assert {(0, 0), (1, 1)} <= found
    plain = replace(GPU, fp16=False, subgroups=())
    assert all(variant.verified for variant in seeds(1, plain))


def test_sub_groups_of_a_size_are_tried_where_there_is_a_choice() -> None:
    adreno = replace(GPU, subgroups=(64, 128))
    around = [v for v in neighbours(Variant.of("gemv.k8n4.img", wgs=128)) if v.tunables["sub"]]
    fits = {
        v.tunables["sub"] for v in around if v.misfit(PROBLEM.form, adreno, paired=True) is None
    }
    assert fits == {1, 64, 128}
    one_size = replace(GPU, subgroups=(32,))
    fits = {
        v.tunables["sub"] for v in around if v.misfit(PROBLEM.form, one_size, paired=True) is None
    }
    assert fits == {1}
    small = Variant.of("gemv.k8n4.img", wgs=32, sub=64)
    assert "smaller than a sub-group" in str(small.misfit(PROBLEM.form, adreno, paired=True))
