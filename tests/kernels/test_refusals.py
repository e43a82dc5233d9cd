"""What a device refused: another variant is taken, and it is remembered for `isthmus doctor`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import program
import tiny_qwen2
from isthmus.core import paths
from isthmus.engine.prepared import pack_model
from isthmus.kernels.base import KVShape
from isthmus.kernels.errors import DeviceLost, OutOfDeviceMemory
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.opencl.backend import OpenCLBackend
from isthmus.kernels.opencl.layouts import Layout, pack
from isthmus.kernels.opencl.products import place_somehow
from isthmus.kernels.opencl.programs import ProgramCache
from isthmus.kernels.opencl.refusals import Refusal, Refusals
from isthmus.kernels.opencl.runtime import Device, open_device
from isthmus.kernels.opencl.trial import Trial
from isthmus.kernels.opencl.variants import Variant, substitutes, uniform_choices
from opencl_devices import GPU, PLATFORMS, requires_opencl, thorough
from random_steps import batch, random_weight

KEY = "960x576.4g32@1"
REFUSED = Refusal("gemv.k8n4.img:rows=4", "gemv.k8n4:rows=4", "an image of 72 by 240 failed")


def test_what_stands_in_for_a_variant_is_as_near_to_it_as_the_weights_order_allows() -> None:
    chosen = Variant.of("gemv.k8n4.img", wgs=16, x_image=1)
    in_image = [str(variant) for variant in substitutes(chosen, chosen.layout, 1)]
    assert in_image[:2] == [str(chosen), str(Variant.of("gemv.k8n4.img", wgs=16))]
    in_buffer = [str(variant) for variant in substitutes(chosen, Layout(4), 1)]
    assert in_buffer[:2] == [
        str(Variant.of("gemv.k8n4", wgs=16, x_image=1)),
        str(Variant.of("gemv.k8n4", wgs=16)),
    ]
    elsewhere = list(substitutes(chosen, Layout(64), 1))
    assert [variant.layout for variant in elsewhere] == [Layout(64)]
    tile = Variant.of("gemm.k8n4.img.local", staged=1, tokens=64)
    assert next(substitutes(tile, Layout(4), 64)) == Variant.of(
        "gemm.k8n4.local", staged=1, tokens=64
    )


def test_a_refusal_is_kept_until_the_choice_works(tmp_path: Path) -> None:
    Refusals(tmp_path, GPU).note(KEY, REFUSED)
    assert Refusals(tmp_path, GPU).known == {KEY: REFUSED}
    assert not Refusals(tmp_path, replace(GPU, driver="2.0")).known
    Refusals(tmp_path, GPU).note(KEY, None)
    assert not Refusals(tmp_path, GPU).known


def test_a_refusal_is_told_once_and_needs_no_folder(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(None, GPU)
    for _ in range(2):
        refusals.note(KEY, REFUSED)
    assert refusals.known == {KEY: REFUSED}
    assert caplog.text.count("gemv.k8n4:rows=4 runs instead") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"b": {"chosen": 1}}}'])
def test_a_damaged_record_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "refused.json").write_text(text, "utf-8")
    refusals = Refusals(tmp_path, GPU)
    assert not refusals.known
    refusals.note(KEY, REFUSED)
    assert Refusals(tmp_path, GPU).known == {KEY: REFUSED}


@requires_opencl
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_weight_whose_image_the_driver_does_not_make_lies_in_buffers(platform: str) -> None:
    device = open_device(
        platform, limited=False, programs=ProgramCache(paths.cache_dir() / "opencl")
    )
    real = device.capabilities
    wide = random_weight(np.random.default_rng(1), 4, 32, 8, 8 * (real.image_size[0] + 4))
    device.capabilities = replace(real, image_size=(1 << 20, 1 << 20))  # a driver that lies
    weight = pack(wide, Layout(4, image=True))
    with pytest.raises(OutOfDeviceMemory, match="an image of"):
        device.image(weight.arrays()[0])
    lying, parts, reason = place_somehow(weight, device)
    assert lying.layout == Layout(4)
    assert "an image of" in str(reason)
    variant = Variant.of("gemv.k8n4", wgs=16)
    x = np.random.default_rng(2).standard_normal((1, wide.cols)).astype(np.float32)
    found = Trial(device, lying, variant, max_tokens=1, parts=parts).run(x)
    right = x @ wide.dequantize().T
    np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-2)


class Refusing(Device):
    """A device whose driver makes no images."""

    def image(self, texels: object) -> NoReturn:
        raise OutOfDeviceMemory("an image failed on the OpenCL device: IMAGE_FORMAT_NOT_SUPPORTED")

    def texels(self, buffer: object) -> NoReturn:
        raise OutOfDeviceMemory("an image failed on the OpenCL device: INVALID_IMAGE_SIZE")


@requires_opencl
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("gemv", "gemm", "instead"),
    [
        ("gemv.k8n4.img:wgs=16,x_image=1", "gemm.k8n4.img:wgs=16", "gemv.k8n4:rows=4"),
        pytest.param("gemv.k:wgs=16,x_image=1", "gemm.k:wgs=16", "gemv.k:rows=4", marks=thorough),
    ],
)
def test_a_model_runs_where_the_driver_makes_no_images_and_it_is_told(
    platform: str, gemv: str, gemm: str, instead: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    choices = uniform_choices(gemv, gemm, most=4)
    backend = OpenCLBackend(
        device=platform, choices=choices, cache_dir=paths.cache_dir(), tuned_dir=tmp_path
    )
    backend._device.__class__ = Refusing
    reference, model, shape = NumpyBackend(), tiny_qwen2.model(), KVShape(blocks=4)
    plan = backend.plan(pack_model(model, backend).ops, kv=shape, max_tokens=20)
    exact = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=20)
    for tokens in ([20], [1]):
        asked = batch(rng, tokens, 288, shape=shape)
        wanted = exact.run(asked).logits
        np.testing.assert_allclose(plan.run(asked).logits, wanted, rtol=5e-3, atol=5e-3)
    plan.close()
    known = Refusals(tmp_path, backend.capabilities).known
    of_one = [refusal for key, refusal in known.items() if key.endswith("@1")]
    assert of_one
    for refusal in of_one:
        assert refusal.chosen == str(Variant.parse(gemv))
        assert refusal.instead.startswith(instead)
        assert "x_image" not in refusal.instead
        assert "failed on the OpenCL device" in refusal.reason


@requires_opencl
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_device_that_is_lost_while_products_are_prepared_is_lost(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OpenCLBackend(device=platform, cache_dir=paths.cache_dir())
    ops = pack_model(tiny_qwen2.model(), backend).ops
    plan = backend.plan(ops, kv=KVShape(blocks=4), max_tokens=4)

    def lost(*_: object) -> NoReturn:
        raise DeviceLost("the device is gone")

    monkeypatch.setattr(backend._device, "launch", lost)
    with pytest.raises(DeviceLost, match="gone"):
        plan.run(batch(np.random.default_rng(4), [3], 288, shape=KVShape(blocks=4)))
    plan.close()


@requires_opencl
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_doctor_tells_what_was_refused_what_runs_instead_and_the_cure(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    device = OpenCLBackend(device=platform).capabilities
    Refusals(paths.tuned_dir(), device).note(KEY, REFUSED)
    done = program.run("doctor", "--json")
    checks = json.loads(done.stdout.splitlines()[-1])["checks"]
    told = next(check for check in checks if check["name"] == "opencl refused")
    assert told["detail"] == f"{KEY}: {REFUSED}"
    assert not told["needed"]
    assert told["cure"].startswith("isthmus tune")
