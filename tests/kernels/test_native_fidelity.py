"""The native backend on the real model: the reference's tokens, the reference's perplexity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isthmus.engine.model import ModelFile
from isthmus.engine.perplexity import all_logits, logits_of, measure
from isthmus.engine.prepared import LoadedModel, load, pack_model
from isthmus.engine.tokens.tokenizer import Tokenizer
from isthmus.kernels import _native
from isthmus.kernels.base import F32, Batch, KVShape, Plan
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend

GOLDEN = Path(__file__).parent / "golden"
CONTINUED = 24
SHAPE = KVShape(blocks=4)
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the sea,",
    "Water boils at a temperature of",
    "Dear Sir or Madam,\n\nI am writing to",
    "SELECT name, COUNT(*) FROM",
    "The three primary colours are",
    "1, 1, 2, 3, 5, 8, 13,",
    "La capitale de l'Italie est",
    "In 1969, humans first",
    '{"name": "Ada", "born":',
    "To make a good cup of tea, first",
    "Q: How many legs does a spider have?\nA:",
    "The opposite of hot is",
    "# Shopping list\n- milk\n-",
    "Photosynthesis is the process by which",
    "Die Katze sitzt auf dem",
    "import numpy as np\n\nx = np.",
    "She opened the door and",
    "Roses are red, violets are",
)


@pytest.fixture(scope="module")
def reference(model_file: ModelFile) -> LoadedModel:
    return pack_model(model_file, NumpyBackend())


@pytest.mark.parametrize(("activation_bits", "certain_share"), [(16, 0.99), (8, 0.4)])
def test_greedy_continuations_are_the_references_wherever_the_margin_exceeds_the_error(
    model_path: Path, reference: LoadedModel, activation_bits: int, certain_share: float
) -> None:
    native = NativeBackend(activation_bits=activation_bits)
    model = load(model_path, native)
    tokenizer = Tokenizer(model.tokenizer)
    certain = 0
    for prompt in PROMPTS:
        tokens = tokenizer.encode(prompt)
        plan = native.plan(model.ops, kv=SHAPE, max_tokens=128)
        logits = np.concatenate(list(logits_of(plan, SHAPE, tokens)))[-1]
        start = len(tokens)
        for _ in range(CONTINUED):  # one by one, as an answer is decoded
            tokens.append(int(logits.argmax()))
            *_, logits = _decode(plan, tokens)
        plan.close()
        ours = all_logits(model, native, tokens)
        expected = all_logits(reference, NumpyBackend(), tokens)
        for at in range(start - 1, start - 1 + CONTINUED):
            second, best = np.sort(expected[at])[-2:]
            error = np.abs(ours[at] - expected[at]).max()
            if best - second > 2 * error:
                certain += 1
                assert tokens[at + 1] == expected[at].argmax()
    # The measure would be empty if the error hid most choices.
    assert certain > certain_share * len(PROMPTS) * CONTINUED


def _decode(plan: Plan, tokens: list[int]) -> F32:
    """The logits after the last token alone. [1, vocab]"""
    blocks = np.arange(SHAPE.blocks, dtype=np.int32)
    return plan.run(Batch.of_one(tokens[-1:], blocks, first=len(tokens) - 1)).logits


@pytest.mark.parametrize("isa", _native.runnable_kernels().split(","))
@pytest.mark.parametrize("activation_bits", [16, 8])
def test_a_greedy_row_has_the_full_heads_best_token_and_its_very_logit_for_fewer_bytes(
    model_path: Path, isa: str, activation_bits: int
) -> None:
    native = NativeBackend(isa=isa, activation_bits=activation_bits)
    model = load(model_path, native)
    tokens = Tokenizer(model.tokenizer).encode((GOLDEN / "text.txt").read_text("utf-8"))
    plan = native.plan(model.ops, kv=SHAPE, max_tokens=120)
    blocks = np.arange(SHAPE.blocks, dtype=np.int32)
    rows = np.arange(5)
    read = np.zeros(2)
    every = 40 if isa == "scalar" else 5  # it takes its time
    for start in range(0, 120, every):  # several rows of a step each look for their own
        batch = Batch.of_one(tokens[start : start + 5], blocks, first=start)
        full, greedy = plan.run(batch), plan.run(replace(batch, greedy=True))
        best = full.logits.argmax(axis=1)
        np.testing.assert_array_equal(greedy.logits.argmax(axis=1), best)
        np.testing.assert_array_equal(greedy.logits[rows, best], full.logits[rows, best])
        read += full.weight_bytes, greedy.weight_bytes
    plan.close()
    assert read[1] < 0.95 * read[0]


@pytest.mark.parametrize("activation_bits", [16, 8])
def test_perplexity_is_within_one_percent_of_the_float32_reference(
    model_path: Path, activation_bits: int
) -> None:
    native = NativeBackend(activation_bits=activation_bits)
    text = (GOLDEN / "text.txt").read_text("utf-8")
    golden = np.load(GOLDEN / "smollm2_logits.npz")
    found = measure(load(model_path, native), native, text)
    assert found.tokens == len(golden["text_nll"])
    assert found.perplexity == pytest.approx(float(golden["text_perplexity"]), rel=0.01)
