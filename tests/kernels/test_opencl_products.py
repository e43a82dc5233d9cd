"""Every algorithm of a product against the dequantized one, on every OpenCL device that is here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clang_kernels import requires_clang
from isthmus.core import paths
from isthmus.kernels.base import F32, QuantizedWeight
from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layouts import WeightForm, form_of, pack, restore
from isthmus.kernels.opencl.products import Epilogue
from isthmus.kernels.opencl.programs import ProgramCache
from isthmus.kernels.opencl.runtime import Device, devices, open_device
from isthmus.kernels.opencl.trial import Trial
from isthmus.kernels.opencl.variants import Variant, default_choices, variants
from opencl_devices import GPU, PLATFORMS, requires_opencl, thorough
from random_steps import random_weight
from spir_device import spir_device

pytestmark = requires_opencl
FORMS = [(4, 32), (4, 128), (4, 16), (6, 16), (8, 32)]
TELLING = (
    "gemv.i",
    "gemm.n:tokens=16",
    "gemv.k8n4:wgs=16,x_image=1",
    "gemm.n.local",
    *(
        pytest.param(text, marks=thorough)
        for text in (
            "gemv.n",
            "gemv.n:block=64,lanes=2,wgs=32,split=2",
            "gemv.n:block=32,lanes=1,wgs=8,split=4",
            "gemv.n:block=16,lanes=8,wgs=3",
            "gemv.n:blocks=4,wgs=2",
            "gemv.i:portable=1,block=32,blocks=1",
            "gemm.n:tokens=2",
            "gemm.n:tokens=4,block=64,lanes=4,wgs=16,split=2",
            "gemv.k",
            "gemv.k:rows=1,wgs=1",
            "gemv.k8n4.img:wgs=64",
            "gemm.k:rows=2,tokens=4,wgs=32",
            "gemm.k8n4:tokens=8,wgs=4",
            "gemm.k8n4.img:tokens=2,wgs=1",
            "gemm.n.local:block=32,staged=1,rows=2,each=8,tokens=8",
            "gemm.k.local:staged=1,wgs=8",
            "gemv.k:staged=1,rows=2,wgs=8",
            "gemv.k8n4.img:staged=1,wgs=16,x_image=1",
            "gemm.k8n4.local:rows=2,wgs=8",
            "gemm.k8n4.img.local:staged=1,each=8,tokens=8",
        )
    ),
)
"""Variants that differ in every part of a kernel."""


@pytest.fixture(params=PLATFORMS)
def device(request: pytest.FixtureRequest) -> Device:
    programs = ProgramCache(paths.cache_dir() / "opencl")
    return open_device(request.param, limited=False, programs=programs)


def expected(weight: QuantizedWeight, x: F32) -> F32:
    """The product, with scales as packing rounds them."""
    return x @ weight.dequantize().T


@pytest.mark.parametrize("text", TELLING)
def test_a_product_agrees_with_the_dequantized_one(device: Device, text: str) -> None:
    rng = np.random.default_rng(1)
    variant = Variant.parse(text)
    for (bits, group), (rows, cols) in zip(
        FORMS, [(70, 200), (288, 576), (16, 96), (33, 130), (160, 256)], strict=True
    ):
        weight = random_weight(rng, bits, group, rows, cols)
        if variant.misfit(form_of(weight), device.capabilities, paired=False):
            continue
        tokens = 1 if variant.tokens == 1 else variant.tokens + 3
        x = rng.standard_normal((tokens, cols)).astype(np.float32)
        found = Trial(device, weight, variant, max_tokens=tokens).run(x)
        right = expected(weight, x)
        bound = 4e-5 * np.abs(right).max() if variant.algorithm.name == "gemv.i" else 2e-3
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=bound)


@pytest.mark.parametrize("text", TELLING)
def test_what_is_done_with_a_result_agrees_too(device: Device, text: str) -> None:
    rng = np.random.default_rng(2)
    variant = Variant.parse(text)
    weight = random_weight(rng, 4, 32, 96, 64)
    tokens = 1 if variant.tokens == 1 else variant.tokens + 3
    x = rng.standard_normal((tokens, 64)).astype(np.float32) / 8
    plain = expected(weight, x)
    bias = rng.standard_normal(96).astype(np.float32)
    biased = Trial(device, weight, variant, max_tokens=tokens, bias=bias)
    np.testing.assert_allclose(biased.run(x), plain + bias, rtol=1e-4, atol=1e-3)
    before = rng.standard_normal((tokens, 96)).astype(np.float32)
    added = Trial(device, weight, variant, max_tokens=tokens, epilogue=Epilogue.ADD)
    np.testing.assert_allclose(added.run(x, before), before + plain, rtol=1e-4, atol=1e-3)
    paired = variant.misfit(form_of(weight), device.capabilities, paired=True)
    if paired is None:
        gated = Trial(device, weight, variant, max_tokens=tokens, epilogue=Epilogue.SWIGLU)
        gate, up = plain[:, 0::2], plain[:, 1::2]
        wanted = gate / (1 + np.exp(-gate)) * up
        np.testing.assert_allclose(gated.run(x), wanted, rtol=1e-3, atol=1e-3)
    else:
        assert "two work-items" in paired
        with pytest.raises(ValueError, match="two work-items"):
            Trial(device, weight, variant, max_tokens=tokens, epilogue=Epilogue.SWIGLU)


@pytest.mark.parametrize(
    "text",
    [
        "gemv.i",
        pytest.param("gemv.n", marks=thorough),
        pytest.param("gemv.n:split=2,wgs=3", marks=thorough),
    ],
)
def test_a_norm_on_the_way_in_agrees_too(device: Device, text: str) -> None:
    rng = np.random.default_rng(3)
    variant = Variant.parse(text)
    assert variant.algorithm.norms
    for bits, group in ((4, 32), (8, 32)):
        weight = random_weight(rng, bits, group, 70, 96)
        x = rng.standard_normal((1, 96)).astype(np.float32)
        scale = rng.uniform(0.5, 1.5, 96).astype(np.float32)
        normed = x / np.sqrt(np.mean(x * x) + np.float32(1e-5)) * scale
        found = Trial(device, weight, variant, max_tokens=1, norm=(scale, 1e-5)).run(x)
        np.testing.assert_allclose(found, expected(weight, normed), rtol=1e-4, atol=2e-3)


@requires_clang
@thorough
@pytest.mark.parametrize(
    "text",
    [
        "gemv.n:fp16=1",
        "gemv.n:fp16=1,block=64,lanes=2,wgs=32,split=2",
        "gemm.n:fp16=1,tokens=8",
        "gemv.k:fp16=1,sub=1,wgs=16",
        "gemv.k:sub=1,wgs=32,rows=1",
        "gemv.k8n4:fp16=1,staged=1,wgs=8",
        "gemv.k8n4.img:fp16=1,sub=1,wgs=8",
        "gemm.k8n4:fp16=1,wgs=4",
        "gemm.n.local:fp16=1",
        "gemm.k.local:fp16=1,staged=1,wgs=8",
        "gemm.k8n4.img.local:fp16=1",
    ],
)
def test_what_only_other_devices_offer_agrees_where_clang_compiles_it(text: str) -> None:
    rng = np.random.default_rng(7)
    device, variant = spir_device(), Variant.parse(text)
    bound = 2e-2 if variant.tunables["fp16"] else 1e-4
    for (bits, group), (rows, cols) in zip(FORMS[:2], [(70, 200), (288, 576)], strict=True):
        weight = random_weight(rng, bits, group, rows, cols)
        tokens = 1 if variant.tokens == 1 else variant.tokens + 3
        x = rng.standard_normal((tokens, cols)).astype(np.float32)
        right = expected(weight, x)
        off = Trial(device, weight, variant, max_tokens=tokens).run(x) - right
        assert np.abs(off).max() <= bound * np.abs(right).max()
        if variant.tunables["fp16"]:
            assert np.abs(off).max() > 1e-5 * np.abs(right).max()  # it did compute in halves
        if variant.algorithm.norms:
            scale = rng.uniform(0.5, 1.5, cols).astype(np.float32)
            normed = x / np.sqrt(np.mean(x * x) + np.float32(1e-5)) * scale
            right = expected(weight, normed)
            found = Trial(device, weight, variant, max_tokens=1, norm=(scale, 1e-5)).run(x)
            assert np.abs(found - right).max() <= bound * np.abs(right).max()


@thorough
def test_a_weight_larger_than_an_allocation_is_split(device: Device) -> None:
    rng = np.random.default_rng(4)
    weight = random_weight(rng, 4, 32, 600, 512)
    x = rng.standard_normal((1, 512)).astype(np.float32)
    small = replace(device.capabilities, allocation_bytes=41_000, image_size=(64, 32))
    handle = next(h for c, h in devices() if c.platform == small.platform)
    tight = Device(small, handle, ProgramCache(None))
    for name in ALGORITHMS:
        variant = Variant.of(name)
        if variant.tokens > 1:
            continue
        trial = Trial(tight, weight, variant, max_tokens=1)
        assert len(trial._launches) == 5
        np.testing.assert_allclose(trial.run(x), expected(weight, x), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(("bits", "group"), FORMS)
@pytest.mark.parametrize("text", ["gemv.n:block=16", "gemv.i:block=128", "gemv.k", "gemv.k8n4"])
def test_a_packed_weight_comes_back_from_its_state(bits: int, group: int, text: str) -> None:
    weight = random_weight(np.random.default_rng(5), bits, group, 50, 90)
    packed = pack(weight, Variant.parse(text).layout)
    again = restore(*packed.state())
    assert (again.form, again.layout) == (packed.form, packed.layout)
    for one, other in zip(again.arrays(), packed.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_variant_reads_back_what_it_writes() -> None:
    for tokens in (1, 2, 4, 8, 16):
        for variant in variants(tokens):
            assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gemv.nonesuch", "not one of"),
        ("gemv.n:colour=1", "no tunable colour"),
        ("gemv.n:block=red", "not a variant"),
    ],
)
def test_a_text_that_names_no_variant_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Variant.parse(text)


def test_a_device_refuses_what_it_cannot_hold(device: Device) -> None:
    form = form_of(random_weight(np.random.default_rng(6), 4, 32, 16, 32))
    small = device.capabilities.limited()
    wide = Variant.of("gemv.n", block=64, lanes=1, wgs=64, split=8)
    assert "at most 64 work-items" in str(wide.misfit(form, small, paired=False))
    few = replace(small, local_bytes=100)
    assert "local memory" in str(Variant.of("gemv.n", split=8).misfit(form, few, paired=False))
    odd = Variant.of("gemv.n", block=16, lanes=16)
    assert odd.misfit(form, small, paired=False) is None
    for tile, variant in default_choices(small).default.items():
        assert variant.misfit(form, small, paired=True) is None, tile


@pytest.mark.parametrize("kind", list(DeviceKind))
@pytest.mark.parametrize("local_bytes", [16 << 10, 32 << 10, 48 << 10])
def test_rows_that_local_memory_cannot_stage_are_normed_apart(
    kind: DeviceKind, local_bytes: int
) -> None:
    device = replace(GPU, kind=kind, local_bytes=local_bytes)
    gemv = default_choices(device).default[1]
    short, long = (WeightForm(4096, cols, 4, 32, symmetric=False) for cols in (576, 14_336))
    assert gemv.norms(short, device)
    assert not gemv.norms(long, device)
    for form in (short, long):
        assert gemv.misfit(form, device, paired=True) is None
