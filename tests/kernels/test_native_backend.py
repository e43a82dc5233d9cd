"""The native backend against the NumPy reference: every instruction set, shape and weight form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
import tiny_qwen2
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.prepared import pack_model
from isthmus.kernels import _native
from isthmus.kernels.base import Batch, Head, KVShape, KVType, QuantizedWeight, RopeStyle
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from isthmus.kernels.tiled_weights import pack_weight
from random_steps import Sizes, batch, random_graph, random_weight, shaped_model

ISAS = _native.runnable_kernels().split(",")
STEPS = {8: 254, 16: 65024}
"""Half steps of an activation up to the largest of its block."""


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation_bits", [8, 16])
@settings(max_examples=40, deadline=None)
@given(
    form=st.sampled_from(
        [(4, 32), (4, 64), (4, 128), (4, 16), (6, 16), (6, 32), (8, 32), (8, 128)]
    ),
    rows=st.integers(1, 70),
    cols=st.integers(1, 200),
    tokens=st.integers(1, 19),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_product_agrees_with_the_dequantized_one(
    isa: str,
    activation_bits: int,
    form: tuple[int, int],
    rows: int,
    cols: int,
    tokens: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    weight = random_weight(rng, *form, rows, cols)
    x = rng.standard_normal((tokens, cols)).astype(np.float32)
    out = np.full((tokens, rows), np.nan, np.float32)
    _native.matmul(pack_weight(weight), x, out, isa, activation_bits // 8)
    expected = x @ weight.dequantize().T
    # What a half step of error in every factor could add up to, and as much again for rounding.
    largest = np.abs(x).max(axis=1, keepdims=True)
    half_steps = largest @ np.abs(weight.dequantize()).sum(axis=1)[None] / STEPS[activation_bits]
    if form == (4, 16):  # not native's own: quantized again to 8 bits
        half_steps += largest * cols * np.abs(weight.dequantize()).max() / 254
    assert (np.abs(out - expected) <= 2 * half_steps + 1e-4).all()


def test_all_instruction_sets_agree_with_the_scalar_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 576)).astype(np.float32)
    for bits, group in ((4, 32), (8, 32), (6, 16)):
        packed = pack_weight(random_weight(rng, bits, group, 40, 576))
        results = []
        for isa in ISAS:
            out = np.full((9, 40), np.nan, np.float32)
            _native.matmul(packed, x, out, isa, 2)
            results.append(out)
        for out in results:
            np.testing.assert_allclose(out, results[-1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("codes", [0, 255])
def test_the_largest_codes_do_not_overflow(codes: int) -> None:
    x = np.where(np.arange(64) % 2, 1.0, -1.0).astype(np.float32)[None] * 3
    for bits, top in ((4, 15), (8, 255)):
        filled = np.full((8, 64), min(codes, top), np.uint8)
        scales = np.ones((8, 2), np.float32)
        minimums = np.zeros((8, 2), np.float32) if bits == 4 else -128 * scales
        weight = QuantizedWeight(bits, 32, filled, scales, minimums)
        for isa in ISAS:
            for sign in (x, np.abs(x)):
                out = np.full((1, 8), np.nan, np.float32)
                _native.matmul(pack_weight(weight), sign, out, isa, 2)
                np.testing.assert_allclose(out, sign @ weight.dequantize().T, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_no_number_shows_in_the_product(isa: str, poison: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 70)).astype(np.float32)
    x[4, 50] = poison
    for bits in (4, 8):
        out = np.zeros((9, 20), np.float32)
        _native.matmul(pack_weight(random_weight(rng, bits, 32, 20, 70)), x, out, isa, 2)
        assert not np.isfinite(out[4]).any()
        assert np.isfinite(np.delete(out, 4, axis=0)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("head_dim", "heads", "rope_style", "kv"),
    [
        (16, 4, RopeStyle.HALVES, KVType.FLOAT32),
        (10, 3, RopeStyle.INTERLEAVED, KVType.FLOAT16),
        (32, 2, RopeStyle.INTERLEAVED, KVType.INT8),
        (80, 5, RopeStyle.HALVES, KVType.INT8),
        (64, 3, RopeStyle.INTERLEAVED, KVType.FLOAT32),
    ],
)
def test_a_whole_step_agrees_with_the_reference(
    isa: str, threads: int, head_dim: int, heads: int, rope_style: RopeStyle, kv: KVType
) -> None:
    rng = np.random.default_rng(3)
    shaped = shaped_model(head_dim, heads, rope_style)
    shape = KVShape(blocks=9, dtype=kv)
    asked = batch(rng, [70, 1, 33], shaped.config.vocab, shape=shape)
    native = NativeBackend(threads=threads, isa=isa)
    plan = native.plan(pack_model(shaped, native).ops, kv=shape, max_tokens=104)
    reference = NumpyBackend()
    expected = reference.plan(pack_model(shaped, reference).ops, kv=shape, max_tokens=104).run(
        asked
    )
    for _ in range(2):  # a second run finds every buffer used
        step = plan.run(asked)
        assert step.hidden is not None
        # A key that lies between two codes may take either one.
        bound = 4e-2 if kv is KVType.INT8 else 5e-3
        np.testing.assert_allclose(step.logits, expected.logits, rtol=bound, atol=bound)
        np.testing.assert_allclose(step.hidden, expected.hidden, rtol=bound, atol=bound)
    plan.close()
    with pytest.raises(RuntimeError, match="closed"):
        plan.run(asked)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    sizes=st.builds(
        Sizes,
        hidden=st.integers(8, 80),
        ffn=st.integers(1, 70),
        vocab=st.integers(1, 150),
        kv_heads=st.integers(1, 3),
        group=st.integers(1, 24),
        head_dim=st.integers(1, 50).map(lambda half: 2 * half),
    ),
    lengths=st.lists(st.sampled_from([1, 2, 7, 16, 33]), min_size=1, max_size=4),
    kv=st.sampled_from(NativeBackend.kv_types),
    threads=st.sampled_from([1, 2, 7]),
    seed=st.integers(0, 2**32 - 1),
)
def test_steps_of_any_size_agree_with_the_reference(
    isa: str, sizes: Sizes, lengths: list[int], kv: KVType, threads: int, seed: int
) -> None:
    shape = KVShape(blocks=2 * len(lengths), dtype=kv)
    asked = batch(np.random.default_rng(seed), lengths, sizes.vocab, shape=shape)
    native, reference = NativeBackend(threads=threads, isa=isa), NumpyBackend()
    plan, exact = (
        backend.plan(random_graph(backend, seed, sizes), kv=shape, max_tokens=sum(lengths))
        for backend in (native, reference)
    )
    expected = exact.run(asked).logits
    # Of the largest logit; those of a small vocabulary may all be the rest of what cancelled out.
    step = {KVType.FLOAT32: 1e-2, KVType.FLOAT16: 3e-2, KVType.INT8: 1.5e-1}[kv]
    bound = step * max(2, np.abs(expected).max())
    assert np.abs(plan.run(asked).logits - expected).max() <= bound
    # And again without what is captured, as a decode: every thread norms for itself.
    last = np.cumsum(lengths, dtype=np.int32) - 1
    again = replace(
        asked,
        tokens=asked.tokens[last],
        positions=asked.positions[last],
        sequence=asked.sequence[last],
        rows=np.arange(len(last), dtype=np.int32),
        capture=False,
    )
    found = plan.run(again).logits
    assert np.abs(found - expected[last]).max() <= bound
    best = plan.run(replace(again, greedy=True)).logits.argmax(axis=1, keepdims=True)
    short = found.max(axis=1, keepdims=True) - np.take_along_axis(found, best, axis=1)
    assert short.max() <= 1e-4  # equal but for rounding
    plan.close()


def test_weights_that_no_row_needs_are_not_counted_as_read() -> None:
    sizes = Sizes(hidden=32, ffn=32, vocab=64, kv_heads=1, group=1, head_dim=32)
    shape = KVShape(blocks=1)
    asked = batch(np.random.default_rng(6), [2], sizes.vocab, shape=shape)
    native, reference = NativeBackend(threads=2), NumpyBackend()
    graph = random_graph(native, 6, sizes)
    plan = native.plan(graph, kv=shape, max_tokens=2)
    whole = plan.run(asked).weight_bytes
    none = plan.run(replace(asked, rows=np.empty(0, np.int32), greedy=True)).weight_bytes
    head = graph[-1]
    assert isinstance(head, Head)
    assert whole is not None
    assert none == whole - head.weight.nbytes
    exact = reference.plan(random_graph(reference, 6, sizes), kv=shape, max_tokens=2)
    values = (3 * 32 + 32 + 2 * 32 + 32 + 64) * 32
    assert exact.run(asked).weight_bytes == 4 * values
    plan.close()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", tiny_models.CONFIGS)
def test_every_architecture_agrees_with_the_reference(name: str, isa: str, tmp_path: Path) -> None:
    model = read_folder(tiny_models.write_folder(tmp_path / name, name))
    shape = KVShape(blocks=6)
    native, reference = NativeBackend(threads=2, isa=isa), NumpyBackend()
    plan = native.plan(pack_model(model, native).ops, kv=shape, max_tokens=80)
    exact = reference.plan(pack_model(model, reference).ops, kv=shape, max_tokens=80)
    asked = batch(np.random.default_rng(3), [50, 1, 20], model.config.vocab, shape=shape)
    few = replace(asked, tokens=asked.tokens[50:52], positions=np.array([50, 1], np.int32),
                  sequence=np.array([0, 1], np.int32), rows=np.array([0, 1], np.int32))  # fmt: skip
    for step in (asked, few):  # a prefill, and then a token of two of its sequences
        np.testing.assert_allclose(
            plan.run(step).logits, exact.run(step).logits, rtol=5e-3, atol=5e-3
        )
    plan.close()


@pytest.mark.parametrize("isa", ISAS)
def test_decoding_token_by_token_agrees_with_one_prefill(isa: str) -> None:
    rng = np.random.default_rng(5)
    native = NativeBackend(threads=2, isa=isa)
    model = pack_model(tiny_qwen2.model(), native)
    shape = KVShape(blocks=3)
    whole = batch(rng, [40], 288, shape=shape)
    plan = native.plan(model.ops, kv=shape, max_tokens=40)
    expected = plan.run(whole).logits
    for t in range(40):
        one = Batch.of_one(whole.tokens[t : t + 1], whole.block_tables[0], first=t)
        np.testing.assert_allclose(plan.run(one).logits[0], expected[t], rtol=1e-4, atol=1e-4)
    plan.close()


@pytest.mark.parametrize("backend", [NativeBackend(threads=1), NumpyBackend()])
@pytest.mark.parametrize("kv", [KVType.FLOAT32, KVType.FLOAT16, KVType.INT8])
def test_a_copied_block_serves_as_its_source(
    backend: NativeBackend | NumpyBackend, kv: KVType
) -> None:
    rng = np.random.default_rng(7)
    model = pack_model(tiny_qwen2.model(), backend)
    shape = KVShape(blocks=3, dtype=kv)
    plan = backend.plan(model.ops, kv=shape, max_tokens=20)
    first = replace(batch(rng, [20], 288, shape=shape), block_tables=np.array([[0]], np.int32))
    expected = plan.run(first).logits[-1]
    plan.copy_block(0, 2)
    last = Batch.of_one(first.tokens[-1:], [2], first=19)
    np.testing.assert_allclose(plan.run(last).logits[0], expected, rtol=1e-4, atol=1e-4)
    plan.close()


def test_sequences_decoded_together_agree_with_each_alone() -> None:
    rng = np.random.default_rng(6)
    native = NativeBackend(threads=2)
    model = pack_model(tiny_qwen2.model(), native)
    shape = KVShape(blocks=9)
    whole = batch(rng, [40, 40, 40], 288, shape=shape)
    plan = native.plan(model.ops, kv=shape, max_tokens=120)
    expected = plan.run(whole).logits.reshape(3, 40, -1)
    for at in range(36, 40):
        step = Batch(
            whole.tokens.reshape(3, 40)[:, at],
            np.full(3, at, np.int32),
            np.arange(3, dtype=np.int32),
            whole.block_tables,
            np.arange(3, dtype=np.int32),
        )
        np.testing.assert_allclose(plan.run(step).logits, expected[:, at], rtol=1e-4, atol=1e-4)
    plan.close()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tokens", [288], "vocabulary"),
        ("tokens", [-1], "vocabulary"),
        ("positions", [64], "outside its block table"),
        ("positions", [40], "outside the pool"),
        ("sequence", [1], "block tables"),
        ("rows", [1], "wanted row"),
        ("rows", [0] * 5, "5 rows are wanted"),
    ],
)
@pytest.mark.parametrize("backend", [NativeBackend(threads=1), NumpyBackend()])
def test_a_batch_that_would_leave_its_buffers_is_refused(
    backend: NativeBackend | NumpyBackend, field: str, value: list[int], words: str
) -> None:
    model = pack_model(tiny_qwen2.model(), backend)
    plan = backend.plan(model.ops, kv=KVShape(blocks=2), max_tokens=4)
    good = Batch.of_one([0], [0, -1])
    with pytest.raises(ValueError, match=words):
        plan.run(replace(good, **{field: np.array(value, np.int32)}))
    assert plan.run(good).logits.shape == (1, 288)
    plan.close()


def test_a_plan_takes_weights_of_its_own_backend_only() -> None:
    native, reference = NativeBackend(threads=1), NumpyBackend()
    ops = pack_model(tiny_qwen2.model(), native).ops
    plan = reference.plan(ops, kv=KVShape(blocks=1), max_tokens=1)
    with pytest.raises(TypeError, match="another backend"):
        plan.run(Batch.of_one([0], [0]))
    assert isinstance(ops[-1], Head)


def test_unknown_instruction_sets_and_thread_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="it runs"):
        NativeBackend(isa="avx9000")
    with pytest.raises(ValueError, match="at least 1"):
        NativeBackend(threads=0)
    with pytest.raises(ValueError, match="8 or 16"):
        NativeBackend(activation_bits=4)
