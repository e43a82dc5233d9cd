"""The OpenCL backend against the NumPy reference, on every device that is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_models
import tiny_qwen2
from isthmus.core import paths
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.model import ModelFile
from isthmus.engine.perplexity import all_logits
from isthmus.engine.prepared import load, pack_model
from isthmus.engine.tokens.tokenizer import Tokenizer
from isthmus.kernels.base import Attention, Backend, Batch, KVShape, KVType, Op, Plan, RopeStyle
from isthmus.kernels.errors import InvalidResult, OutOfDeviceMemory
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.opencl.backend import OpenCLBackend
from isthmus.kernels.opencl.plan import OpenCLPlan, Sized
from isthmus.kernels.opencl.programs import ProgramCache
from isthmus.kernels.opencl.refusals import Refusals
from isthmus.kernels.opencl.runtime import Device, devices
from isthmus.kernels.opencl.variants import uniform_choices
from opencl_devices import PLATFORMS, requires_opencl, thorough
from random_steps import Sizes, batch, random_graph, shaped_model

pytestmark = requires_opencl
WHERE_INT8_MAY_ROUND_OTHERWISE = 4e-2
WHERE_ONE_TOKEN_HAS_INPUTS_OF_16_BITS = 5e-4
CONTINUED = 16


def backend(platform: str, *, limited: bool = False) -> OpenCLBackend:
    """The device of a platform. Its programs are kept between runs of the tests."""
    return OpenCLBackend(device=platform, limited=limited, cache_dir=paths.cache_dir())


def one(token: int, position: int, table: list[int]) -> Batch:
    """A batch of one token."""
    return Batch.of_one([token], table, first=position)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("head_dim", "heads", "rope_style", "kv"),
    [
        pytest.param(16, 4, RopeStyle.HALVES, KVType.FLOAT32, marks=thorough),
        pytest.param(10, 3, RopeStyle.INTERLEAVED, KVType.FLOAT16, marks=thorough),
        pytest.param(80, 5, RopeStyle.HALVES, KVType.INT8, marks=thorough),
        (64, 3, RopeStyle.INTERLEAVED, KVType.INT8_GROUP8),
    ],
)
@pytest.mark.parametrize("limited", [False, True])
def test_a_whole_step_agrees_with_the_reference(
    platform: str, head_dim: int, heads: int, rope_style: RopeStyle, kv: KVType, limited: bool
) -> None:
    rng = np.random.default_rng(3)
    model = shaped_model(head_dim, heads, rope_style)
    shape = KVShape(blocks=9, dtype=kv)
    asked = batch(rng, [70, 1, 33], 288, shape=shape)
    reference = NumpyBackend()
    expected = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=104).run(asked)
    device = backend(platform, limited=limited)
    plan = device.plan(pack_model(model, device).ops, kv=shape, max_tokens=104)
    bound = WHERE_INT8_MAY_ROUND_OTHERWISE if kv.group else 1e-3
    for _ in range(2):  # a second run finds every buffer used
        step = plan.run(asked)
        assert step.hidden is not None
        np.testing.assert_allclose(step.logits, expected.logits, rtol=bound, atol=bound)
        np.testing.assert_allclose(step.hidden, expected.hidden, rtol=bound, atol=bound)
    plan.close()
    with pytest.raises(RuntimeError, match="closed"):
        plan.run(asked)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "name",
    ["qwen3", *(pytest.param(n, marks=thorough) for n in tiny_models.CONFIGS if n != "qwen3")],
)
def test_every_architecture_agrees_with_the_reference(
    platform: str, name: str, tmp_path: Path
) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / name, name))
    shape = KVShape(blocks=3)
    step = batch(np.random.default_rng(9), [40, 17], 288, shape=replace(shape, blocks=4))
    step = replace(step, block_tables=np.array([[0, 2], [1, -1]], np.int32))
    device, reference = backend(platform), NumpyBackend()
    plan = device.plan(pack_model(model, device).ops, kv=shape, max_tokens=57)
    exact = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=57)
    expected = exact.run(step).logits
    np.testing.assert_allclose(plan.run(step).logits, expected, rtol=5e-3, atol=5e-3)
    last = one(int(step.tokens[39]), 39, [0, 2])  # attention keeps keys in the same launch
    np.testing.assert_allclose(plan.run(last).logits[0], expected[39], rtol=5e-3, atol=5e-3)
    plan.close()


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("gemv", "gemm"),
    [
        ("gemv.k:rows=2,wgs=4", "gemm.k:rows=2,wgs=4"),
        ("gemv.k8n4.img:wgs=4", "gemm.k8n4.img:wgs=4"),
        ("gemv.n:block=64,lanes=2,wgs=32,split=2", "gemm.n:block=64,lanes=2,wgs=32"),
    ],
)
def test_a_whole_step_agrees_with_every_kind_of_algorithm(
    platform: str, gemv: str, gemm: str
) -> None:
    rng = np.random.default_rng(4)
    model = shaped_model(16, 4, RopeStyle.HALVES)
    shape = KVShape(blocks=2)
    asked = batch(rng, [20], 288, shape=shape)
    reference = NumpyBackend()
    planned = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=20)
    expected = planned.run(asked).logits
    choices = uniform_choices(gemv, gemm)
    device = OpenCLBackend(device=platform, cache_dir=paths.cache_dir(), choices=choices)
    plan = device.plan(pack_model(model, device).ops, kv=shape, max_tokens=20)
    np.testing.assert_allclose(plan.run(asked).logits, expected, rtol=1e-3, atol=1e-3)
    last = one(int(asked.tokens[-1]), 19, asked.block_tables[0].tolist())
    np.testing.assert_allclose(plan.run(last).logits[0], expected[-1], rtol=1e-3, atol=1e-3)
    plan.close()


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_long_context_in_parts_and_few_tokens_at_once_agree_with_one_prefill(
    platform: str,
) -> None:
    rng = np.random.default_rng(5)
    device = backend(platform)
    model = pack_model(shaped_model(16, 4, RopeStyle.HALVES), device)  # one head of k and v
    shape = KVShape(blocks=20)  # more than one part holds
    whole = batch(rng, [600], 288, shape=shape)
    plan = device.plan(model.ops, kv=shape, max_tokens=600)
    expected = plan.run(whole).logits
    for first, last in ((0, 590), (590, 591), (591, 594), (594, 600)):
        chosen = slice(first, last)
        some = replace(
            whole,
            tokens=whole.tokens[chosen],
            positions=whole.positions[chosen],
            sequence=whole.sequence[chosen],
            rows=np.arange(last - first, dtype=np.int32),
        )
        found = plan.run(some).logits
        bound = WHERE_ONE_TOKEN_HAS_INPUTS_OF_16_BITS
        np.testing.assert_allclose(found, expected[chosen], rtol=bound, atol=bound)
    plan.close()


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
def test_sequences_decoded_together_agree_with_each_alone(platform: str) -> None:
    rng = np.random.default_rng(6)
    device = backend(platform)
    model = pack_model(tiny_qwen2.model(), device)
    shape = KVShape(blocks=9)
    whole = batch(rng, [40, 40, 40], 288, shape=shape)
    plan = device.plan(model.ops, kv=shape, max_tokens=120)
    expected = plan.run(whole).logits.reshape(3, 40, -1)
    for at in (36, 39):
        step = Batch(
            whole.tokens.reshape(3, 40)[:, at],
            np.full(3, at, np.int32),
            np.arange(3, dtype=np.int32),
            whole.block_tables,
            np.arange(3, dtype=np.int32),
        )
        np.testing.assert_allclose(plan.run(step).logits, expected[:, at], rtol=1e-4, atol=1e-4)
    plan.close()


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kv", list(KVType))
def test_a_copied_block_serves_as_its_source(platform: str, kv: KVType) -> None:
    rng = np.random.default_rng(7)
    device = backend(platform)
    shape = KVShape(blocks=3, dtype=kv)
    plan = device.plan(pack_model(tiny_qwen2.model(), device).ops, kv=shape, max_tokens=20)
    first = replace(batch(rng, [20], 288, shape=shape), block_tables=np.array([[0]], np.int32))
    expected = plan.run(first).logits[-1]
    plan.copy_block(0, 2)
    last = one(int(first.tokens[-1]), 19, [2])
    bound = WHERE_ONE_TOKEN_HAS_INPUTS_OF_16_BITS
    np.testing.assert_allclose(plan.run(last).logits[0], expected, rtol=bound, atol=bound)
    with pytest.raises(ValueError, match="must be in the pool"):
        plan.copy_block(0, 3)
    plan.close()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_greedy_step_tells_the_best_logit_of_each_row_alone(platform: str) -> None:
    rng = np.random.default_rng(8)
    device = backend(platform)
    shape = KVShape(blocks=4)
    plan = device.plan(pack_model(tiny_qwen2.model(), device).ops, kv=shape, max_tokens=60)
    asked = replace(batch(rng, [20, 33], 288, shape=shape), capture=False)
    for rows in (asked.rows, asked.rows[-1:]):
        full = plan.run(replace(asked, rows=rows)).logits
        best = plan.run(replace(asked, rows=rows, greedy=True)).logits
        np.testing.assert_array_equal(best.argmax(axis=1), full.argmax(axis=1))
        np.testing.assert_array_equal(best.max(axis=1), full.max(axis=1))
    assert plan.run(replace(asked, rows=rows[:0], greedy=True)).logits.shape == (0, 288)
    plan.close()


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("greedy", [False, True])
def test_logits_that_are_no_numbers_are_an_error(platform: str, greedy: bool) -> None:
    device = backend(platform)
    tiny = tiny_qwen2.model()
    broken = replace(tiny, vector=lambda name: tiny.vector(name) * np.float32(np.nan))
    plan = device.plan(pack_model(broken, device).ops, kv=KVShape(blocks=1), max_tokens=1)
    with pytest.raises(InvalidResult, match="no numbers"):
        plan.run(replace(one(1, 0, [0]), greedy=greedy))
    plan.close()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_pool_larger_than_an_allocation_is_refused(platform: str) -> None:
    device = backend(platform, limited=True)
    ops = pack_model(tiny_qwen2.model(), device).ops
    with pytest.raises(OutOfDeviceMemory, match="the device gives 268435456"):
        device.plan(ops, kv=KVShape(blocks=1 << 18), max_tokens=1)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_pool_larger_than_an_allocation_is_split_by_its_heads(platform: str) -> None:
    rng = np.random.default_rng(10)
    packer, reference = backend(platform), NumpyBackend()
    model, shape = tiny_qwen2.model(), KVShape(blocks=60)
    both_heads = 2 * 4 * model.config.head_dim * shape.block_tokens * shape.blocks
    small = replace(packer.capabilities, allocation_bytes=both_heads - 1)
    handle = next(handle for known, handle in devices() if known == packer.capabilities)
    device = Device(small, handle, ProgramCache(paths.cache_dir() / "opencl"))
    plan = OpenCLPlan(pack_model(model, packer).ops, shape, 40, device, packer.choices)
    asked = batch(rng, [40], 288, shape=shape)
    exact = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=40)
    expected = exact.run(asked).logits
    np.testing.assert_allclose(plan.run(asked).logits, expected, rtol=5e-3, atol=5e-3)
    first, second, other = asked.block_tables[0, :3].tolist()
    plan.copy_block(second, other)
    last = plan.run(one(int(asked.tokens[-1]), 39, [first, other]))
    np.testing.assert_allclose(last.logits[0], expected[-1], rtol=5e-3, atol=5e-3)
    moved = next(block for block in range(60) if block not in asked.block_tables[0, :3])
    plan.write_block(moved, plan.read_block(second))
    again = plan.run(one(int(asked.tokens[-1]), 39, [first, moved]))
    np.testing.assert_allclose(again.logits[0], expected[-1], rtol=5e-3, atol=5e-3)
    plan.close()


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("units", [1, 2, 9])
def test_a_cpu_takes_one_token_through_layers_that_are_alike_in_one_launch(
    platform: str, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(12)
    packer, reference = backend(platform), NumpyBackend()
    if not packer.on_cpu:
        pytest.skip("is for CPUs")
    sizes = Sizes(hidden=96, ffn=160, vocab=288, kv_heads=2, group=2, head_dim=32)
    shape = KVShape(blocks=20)  # more than one part holds
    asked = batch(rng, [400], 288, shape=shape)
    exact = reference.plan(layers_of_two_kinds(reference, sizes), kv=shape, max_tokens=400)
    expected = exact.run(asked).logits[-1]

    cores = replace(packer.capabilities, compute_units=units)
    handle = next(handle for known, handle in devices() if known == packer.capabilities)
    device = Device(cores, handle, ProgramCache(paths.cache_dir() / "opencl"))
    ops = layers_of_two_kinds(packer, sizes)
    plan = OpenCLPlan(ops, shape, 400, device, packer.choices)
    plan.run(asked)
    sent: list[int] = []
    submit = device.submit

    def counted(launches: Sequence[Sized]) -> None:
        sent.append(len(launches))
        submit(launches)

    monkeypatch.setattr(device, "submit", counted)
    last = one(int(asked.tokens[-1]), 399, asked.block_tables[0].tolist())
    for _ in range(2):
        found = plan.run(last).logits[0]
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)
    assert sent == [4, 4]  # the embedding, two layers, one of another kind, the head
    plan.close()


def layers_of_two_kinds(backend: Backend, sizes: Sizes) -> list[Op]:
    """Two layers that are alike and one that is not."""
    first, second = random_graph(backend, 13, sizes), random_graph(backend, 14, sizes)
    third = random_graph(backend, 15, replace(sizes, ffn=sizes.ffn - 32))
    graph = [first[0]]
    for layer, ops in enumerate((first, second, third)):
        graph += [replace(o, layer=layer) if isinstance(o, Attention) else o for o in ops[1:8]]
    return [*graph, *first[8:]]


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("gemv", "limits", "reason"),
    [
        ("gemv.k8n4:wgs=4,x_image=1", {"image_texels": 64}, "beyond the limit 64"),
        ("gemv.n:block=32,lanes=1,wgs=32", {}, "two work-items"),
    ],
)
def test_a_choice_that_a_device_cannot_run_is_replaced_and_the_reason_kept(
    platform: str, gemv: str, limits: dict[str, int], reason: str
) -> None:
    rng = np.random.default_rng(11)
    packer, reference = backend(platform), NumpyBackend()
    packer.choices = uniform_choices(gemv, gemv.replace("gemv", "gemm"))
    model, shape = tiny_qwen2.model(), KVShape(blocks=1)
    small = replace(packer.capabilities, **limits)
    handle = next(handle for known, handle in devices() if known == packer.capabilities)
    device = Device(small, handle, ProgramCache(paths.cache_dir() / "opencl"))
    refusals = Refusals(None, small)
    plan = OpenCLPlan(pack_model(model, packer).ops, shape, 4, device, packer.choices, refusals)
    asked = batch(rng, [3], 288, shape=shape)
    expected = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=4).run(asked)
    np.testing.assert_allclose(plan.run(asked).logits, expected.logits, rtol=5e-3, atol=5e-3)
    assert any(reason in refusal.reason for refusal in refusals.known.values())
    plan.close()


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(OSError, match=f"'nonesuch'.*{PLATFORMS[0].split()[0]}"):
        backend("nonesuch")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_second_plan_compiles_nothing(platform: str, tmp_path: Path) -> None:
    def kept() -> set[tuple[Path, int]]:
        device = OpenCLBackend(device=platform, cache_dir=tmp_path)
        ops = pack_model(tiny_qwen2.model(), device).ops
        plan = device.plan(ops, kv=KVShape(blocks=1), max_tokens=1)
        plan.run(one(1, 0, [0]))
        plan.close()
        return {(path, path.stat().st_mtime_ns) for path in (tmp_path / "opencl").iterdir()}

    first = kept()
    assert first
    assert kept() == first


@thorough
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("limited", [False, True])
def test_greedy_answers_of_the_small_model_are_the_references(
    platform: str, limited: bool, model_path: Path, model_file: ModelFile
) -> None:
    device, reference = backend(platform, limited=limited), NumpyBackend()
    model = load(model_path, device)
    tokens = Tokenizer(model.tokenizer).encode("Water boils at a temperature of")
    shape = KVShape(blocks=2)
    plan = device.plan(model.ops, kv=shape, max_tokens=64)
    start = len(tokens)
    logits = prefill(plan, tokens)
    for at in range(start, start + CONTINUED):
        tokens.append(int(logits.argmax()))
        logits = plan.run(one(tokens[-1], at, [0, 1])).logits[0]
    plan.close()
    expected = all_logits(pack_model(model_file, reference), reference, tokens)
    np.testing.assert_array_equal(tokens[start:], expected[start - 1 : -1].argmax(axis=1))
    np.testing.assert_allclose(logits, expected[-1], rtol=5e-3, atol=5e-3)


def prefill(plan: Plan, tokens: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The logits after the last of them. [vocab]"""
    return plan.run(Batch.of_one(tokens, [0, 1], wanted=1)).logits[0]
