"""Blocks of keys and values that go from one backend's pool to another's."""

from __future__ import annotations

import numpy as np
import pytest

import tiny_qwen2
from isthmus.engine.prepared import pack_model
from isthmus.engine.split import SplitBackend, SplitPlan
from isthmus.kernels import create
from isthmus.kernels.base import F16, Backend, Batch, KVShape, KVType, Plan
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.opencl import blocks as opencl_blocks
from isthmus.kernels.tiled_blocks import pack_block, unpack_block
from opencl_devices import requires_opencl

MODEL = tiny_qwen2.model()
NATIVE_TYPES = NativeBackend.kv_types
KV = KVShape(8, dtype=KVType.FLOAT32)


def plan_on(backend: Backend, kv: KVShape = KV) -> Plan:
    return backend.plan(pack_model(MODEL, backend).ops, kv=kv, max_tokens=128)


def batch(tokens: list[int], first: int, blocks: list[int]) -> Batch:
    return Batch.of_one(tokens, blocks, first=first, wanted=1)


PROMPT = [int(token) for token in np.random.default_rng(5).integers(0, 250, 70)]


@pytest.mark.parametrize("head_dim", [16, 32, 64, 80])
@pytest.mark.parametrize("dtype", NATIVE_TYPES)
def test_a_packed_block_is_the_block_that_it_was(dtype: KVType, head_dim: int) -> None:
    random = np.random.default_rng(1)
    block: F16 = random.normal(size=(3, 2, 2, 32, head_dim)).astype(np.float16)
    again = unpack_block(pack_block(block, dtype), dtype, kv_heads=2, head_dim=head_dim)
    if dtype is KVType.INT8:
        largest = np.abs(block.astype(np.float32)).max()
        np.testing.assert_allclose(again, block, atol=largest / 254 + 2e-3)
    else:
        np.testing.assert_array_equal(again, block)
    # What is rounded once stays as it is, however often it travels.
    thrice = unpack_block(pack_block(again, dtype), dtype, kv_heads=2, head_dim=head_dim)
    np.testing.assert_allclose(thrice, again, rtol=2e-3)


@pytest.mark.parametrize("dtype", NATIVE_TYPES)
def test_native_and_reference_give_the_same_block_for_the_same_tokens(dtype: KVType) -> None:
    kv = KVShape(8, dtype=dtype)
    blocks = []
    for backend in (NativeBackend(threads=1), NumpyBackend()):
        plan = plan_on(backend, kv)
        plan.run(batch(PROMPT, 0, [5, 2, 7]))
        blocks.append([plan.read_block(block).astype(np.float32) for block in (5, 2)])
        plan.close()
    native, reference = blocks
    assert native[0].shape == (2, 2, 2, 32, 16)
    # The native one's activations are rounded to 16 bits; a code of int8 may fall to either side.
    largest = max(np.abs(block).max() for block in reference)
    for ours, theirs in zip(native, reference, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=largest * 0.012)
        assert np.abs(theirs).max() > 0.1


@pytest.mark.parametrize("dtype", NATIVE_TYPES)
@pytest.mark.parametrize("way", ["native to numpy", "numpy to native"])
def test_a_step_over_blocks_from_elsewhere_gives_what_it_gives_at_home(
    way: str, dtype: KVType
) -> None:
    kv = KVShape(8, dtype=dtype)
    made: list[Backend] = [NativeBackend(threads=1), NumpyBackend()]
    source, target = made if way == "native to numpy" else reversed(made)
    away, home = plan_on(source, kv), plan_on(target, kv)
    for plan in (away, home):
        plan.run(batch(PROMPT, 0, [0, 1, 2]))
    wanted = home.run(batch([9], 70, [0, 1, 2])).logits
    for block in (0, 1, 2):
        values = away.read_block(block)
        values[..., 70 - 32 * block :, :] = 0  # what was never written
        home.write_block(block + 3, values)
    found = home.run(batch([9], 70, [3, 4, 5])).logits
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
    for plan in (away, home):
        plan.close()


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("head_dim", [16, 64, 80])
@pytest.mark.parametrize("dtype", KVType)
def test_a_block_packed_for_opencl_is_the_block_that_it_was(
    dtype: KVType, head_dim: int, keys: bool
) -> None:
    kv = KVShape(8, dtype=dtype)
    block: F16 = np.random.default_rng(1).normal(size=(3, 32, head_dim)).astype(np.float16)
    raw = opencl_blocks.pack(block, kv, keys=keys)
    again = opencl_blocks.unpack(raw, kv, head_dim=head_dim, keys=keys)
    largest = np.abs(block.astype(np.float32)).max()
    np.testing.assert_allclose(again, block, atol=largest / 200 if dtype.group else 0)


@requires_opencl
@pytest.mark.parametrize("dtype", KVType)
def test_opencl_and_reference_give_and_take_the_same_blocks(dtype: KVType) -> None:
    kv = KVShape(8, dtype=dtype)
    gpu, reference = plan_on(create("opencl"), kv), plan_on(NumpyBackend(), kv)
    for plan in (gpu, reference):
        plan.run(batch(PROMPT, 0, [5, 2, 7]))
    for block in (5, 2):
        ours = gpu.read_block(block).astype(np.float32)
        theirs = reference.read_block(block).astype(np.float32)
        np.testing.assert_allclose(ours, theirs, atol=np.abs(theirs).max() * 0.02)
    wanted = gpu.run(batch([9], 70, [5, 2, 7])).logits
    for source, target in ((5, 0), (2, 1), (7, 3)):
        gpu.write_block(target, reference.read_block(source))
    found = gpu.run(batch([9], 70, [0, 1, 3])).logits
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="in the pool of 8"):
        gpu.read_block(8)
    gpu.close()


def test_a_block_of_another_model_or_outside_the_pool_is_refused() -> None:
    plan = plan_on(NativeBackend(threads=1))
    with pytest.raises(ValueError, match="another model"):
        plan.write_block(0, np.zeros((1, 2, 2, 32, 16), np.float16))
    with pytest.raises(ValueError, match="in the pool of 8"):
        plan.read_block(8)
    with pytest.raises(ValueError, match="in the pool of 8"):
        plan.write_block(-1, np.zeros((2, 2, 2, 32, 16), np.float16))
    plan.close()


def split_of(prefill: Backend, decode: Backend) -> SplitPlan:
    both = SplitBackend(prefill, decode, lambda: pack_model(MODEL, prefill).ops)
    plan = plan_on(both)
    assert isinstance(plan, SplitPlan)
    return plan


def test_prompt_answer_and_next_turn_are_those_of_one_backend_alone() -> None:
    """The two are the reference twice, so that all may differ by is the half precision."""
    split, alone = split_of(NumpyBackend(), NumpyBackend()), plan_on(NumpyBackend())
    steps = [
        batch(PROMPT[:64], 0, [3, 1, -1, -1]),  # a prompt of two blocks
        batch(PROMPT[64:66], 64, [3, 1, 6, -1]),  # its end is no work for the prompts' backend
        batch([7], 66, [3, 1, 6, -1]),
        batch([8, 9, 10], 67, [3, 1, 6, -1]),  # with guesses
        batch(PROMPT[:40], 70, [3, 1, 6, 2]),  # the next turn
        batch([11], 110, [3, 1, 6, 2]),
    ]
    moved = []
    for step in steps:
        found, wanted = split.run(step).logits, alone.run(step).logits
        np.testing.assert_allclose(found, wanted, atol=5e-3)
        moved.append(split.moved)
    # Two blocks of the prompt, none more while the answer is written, the answer's one, then the
    # two that the next turn wrote.
    assert moved == [0, 2, 2, 2, 3, 5]


def test_a_copied_block_is_as_new_as_its_source() -> None:
    split, alone = split_of(NumpyBackend(), NumpyBackend()), plan_on(NumpyBackend())
    for plan in (split, alone):
        plan.run(batch(PROMPT[:32], 0, [0]))
        plan.copy_block(0, 4)
    step = batch([5], 32, [4, 1])
    np.testing.assert_allclose(split.run(step).logits, alone.run(step).logits, atol=5e-3)
    assert split.moved == 1
    np.testing.assert_array_equal(split.read_block(4), split.read_block(0))


def test_prompts_that_share_a_step_are_read_where_one_alone_would_be() -> None:
    split = split_of(NumpyBackend(), NumpyBackend())
    tables = np.arange(8, dtype=np.int32)[:, None]
    sequence = np.arange(8, dtype=np.int32)
    prompts = Batch(
        np.full(24, 7, np.int32), np.tile(np.arange(3, dtype=np.int32), 8), np.repeat(sequence, 3),
        tables, np.empty(0, np.int32),
    )  # fmt: skip
    split.run(prompts)
    guesses = Batch(
        np.full(24, 7, np.int32), np.tile(np.arange(3, 6, dtype=np.int32), 8),
        np.repeat(sequence, 3), tables, np.arange(24, dtype=np.int32),
    )  # fmt: skip
    split.run(guesses)
    assert split.moved == 8
    split.run(guesses)
    assert split.moved == 8
