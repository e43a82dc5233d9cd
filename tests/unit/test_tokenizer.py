"""Text becomes the model's tokens, never control tokens, and comes back whole."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

import tiny_qwen2
from isthmus.core.errors import InvalidRequest
from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.formats.tokenizer_json import tokenizer_json
from isthmus.engine.formats.vocabulary import tokenizer_spec
from isthmus.engine.model import ModelFile
from isthmus.engine.tokens.tokenizer import Segment, StreamDecoder, Tokenizer
from isthmus.engine.tokens.words import PRE_TOKENIZERS

GOLDEN = Path(__file__).parent.parent / "kernels" / "golden"
TINY = Tokenizer(tokenizer_spec(tiny_qwen2.header(), vocab=tiny_qwen2.CONFIG.vocab))
END, START = 258, 257


@pytest.fixture(scope="module")
def smollm(model_file: ModelFile) -> Tokenizer:
    return Tokenizer(model_file.tokenizer)


def test_a_long_text_has_the_tokens_that_transformers_gives(smollm: Tokenizer) -> None:
    text = (GOLDEN / "text.txt").read_text("utf-8")
    with np.load(GOLDEN / "smollm2_logits.npz") as golden:
        assert smollm.encode(text) == golden["text_ids"].tolist()


def test_digits_stand_alone_in_the_smollm_vocabulary(smollm: Tokenizer) -> None:
    pieces = [smollm.token_bytes(i) for i in smollm.encode("in 1969")]
    assert pieces == [b"in", b" ", b"1", b"9", b"6", b"9"]


def test_known_words_have_the_published_ids(smollm: Tokenizer) -> None:
    # From the tokenizer.json of HuggingFaceTB/SmolLM2-135M-Instruct.
    assert smollm.encode("Hello world") == [19556, 905]
    assert smollm.encode((Segment("<|im_start|>", is_control=True), Segment("user\n"))) == [
        1, 4093, 198,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["<|im_end|>", "a<|im_start|>system\n", "<|endoftext|>" * 3])
def test_text_that_looks_like_control_tokens_stays_text(smollm: Tokenizer, text: str) -> None:
    ids = smollm.encode(text)
    assert not set(ids) & set(smollm.spec.special_ids)
    assert smollm.decode(ids) == text


def test_control_segments_become_their_tokens() -> None:
    ids = TINY.encode(
        (Segment("<|im_start|>", is_control=True), Segment("the"), Segment("<|im_end|>", True))
    )
    assert ids == [START, 259, ord("e"), END]
    assert TINY.decode(ids) == "the"


def test_merges_are_applied_and_bytes_map_back() -> None:
    assert [TINY.token_bytes(i) for i in TINY.encode("then")] == [b"th", b"e", b"n"]
    assert b"".join(TINY.token_bytes(i) for i in range(256)) == bytes(range(256))


def test_text_that_is_not_unicode_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        TINY.encode("a\ud800b")


def test_ids_without_a_token_have_no_bytes() -> None:
    assert TINY.token_bytes(100_000) == b""
    assert TINY.token_bytes(-1) == b""


def test_qwen2_text_is_normalized_as_its_makers_do() -> None:
    assert TINY.decode(TINY.encode("e\u0301")) == "\u00e9"


def test_the_beginning_token_comes_once_and_only_if_wanted() -> None:
    spec = tiny_qwen2.header() | {
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.add_bos_token": True,
    }
    wanted = Tokenizer(tokenizer_spec(spec, vocab=288))
    assert wanted.encode("e")[0] == 256
    assert wanted.encode((Segment("<|endoftext|>", is_control=True), Segment("e"))).count(256) == 1
    assert 256 not in TINY.encode("e")


@given(st.text(max_size=40))
def test_a_stream_says_what_the_whole_says(text: str) -> None:
    ids = TINY.encode(text)
    stream = StreamDecoder(TINY)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) == TINY.decode(ids)
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = StreamDecoder(TINY)
    snowman = TINY.encode("☃")
    assert [stream.push(i) for i in snowman] == ["", "", "☃"]


def test_bytes_that_can_never_be_a_character_are_replaced_at_once() -> None:
    stream = StreamDecoder(TINY)
    broken, letter = 0xE2, ord("a")
    assert stream.push(broken) == ""
    assert stream.push(letter) == "\ufffda"


def test_half_a_character_at_the_end_is_never_shown() -> None:
    assert TINY.decode(TINY.encode("a☃")[:-1]) == "a"


def test_control_tokens_are_never_shown() -> None:
    stream = StreamDecoder(TINY)
    assert stream.push(END) == ""
    assert TINY.decode([ord("a"), END, ord("b")]) == "ab"


def test_a_pretokenizer_of_another_family_is_refused() -> None:
    header = tiny_qwen2.header() | {"tokenizer.ggml.model": "t5"}
    with pytest.raises(ModelNotSupported, match=r"'t5'.*SentencePiece.*byte-level BPE.*qwen2"):
        tokenizer_spec(header, vocab=288)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": [1, 1]},
        {"tokenizer.ggml.merges": ["no such"]},
        {"tokenizer.ggml.merges": ["one"]},
        {"tokenizer.ggml.tokens": None},
        {"tokenizer.ggml.token_type": [1]},
        {"tokenizer.ggml.eos_token_id": 5000},
    ],
)
def test_a_vocabulary_that_does_not_fit_together_is_damage(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelDamaged):
        tokenizer_spec(tiny_qwen2.header() | wrong, vocab=288)


def test_a_vocabulary_without_tokens_is_damage() -> None:
    empty = {"tokenizer.ggml.tokens": [], "tokenizer.ggml.token_type": []}
    with pytest.raises(ModelDamaged, match="0 tokens"):
        tokenizer_spec(tiny_qwen2.header() | empty, vocab=288)


def library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer as Hugging Face's own library runs it."""
    theirs = tokenizers.Tokenizer.from_str(tokenizer_json(tokenizer.spec))
    theirs.encode_special_tokens = True
    return theirs


PIECES = st.sampled_from(
    [
        *"1²Ⅷ٣中ñ😀\u200d\x1c\x85\u3000\n \t_",
        "'s",
        "'LL",
        "'ſ",
        "e\u0301",
        "\r\n",
        "  ",
        "th",
        "The",
        "!?",
        "<|im_end|>",
        "<tool>",
    ]
)
TEXTS = st.lists(PIECES | st.text(st.characters(codec="utf-8"), max_size=3)).map("".join)


@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
@given(text=TEXTS)
def test_every_text_has_the_tokens_that_the_models_own_library_gives(
    pre_tokenizer: str, text: str
) -> None:
    ours, theirs = FAMILIES[pre_tokenizer]
    # Letters of a newer Unicode than this Python's are no letters here.
    known = "".join(c for c in text if unicodedata.category(c) != "Cn")
    assert ours.encode(known) == theirs.encode(known, add_special_tokens=False).ids


def family(pre_tokenizer: str) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """A small tokenizer of a family, with a few merges and a token that is found whole."""
    merges = ["t h", "th e", "Ġ t", "Ġ th", "Ġ Ġ", "1 1", "ĠĠ ĠĠ", "ä ¸", "ä¸ Ń", "! ?", "Ċ Ċ"]
    tokens = [*tiny_qwen2.byte_characters(), *tiny_qwen2.SPECIAL, "<tool>"]
    tokens += [merge.replace(" ", "") for merge in merges]
    header = tiny_qwen2.header() | {
        "tokenizer.ggml.pre": pre_tokenizer,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [1] * 256 + [3, 3, 3, 4] + [1] * len(merges),
    }
    ours = Tokenizer(tokenizer_spec(header, vocab=len(tokens)))
    return ours, library(ours)


FAMILIES = {name: family(name) for name in PRE_TOKENIZERS}


def test_a_tokens_text_may_be_found_whole_but_never_inside_a_control_token() -> None:
    ours, _ = FAMILIES["qwen2"]
    assert ours.encode("a<tool>b") == [ord("a"), 259, ord("b")]


def test_a_real_vocabulary_has_the_tokens_that_the_models_own_library_gives(
    smollm: Tokenizer,
) -> None:
    text = Path(__file__).read_text("utf-8") * 2 + "中文 ñandú 12³ \u3000 \r\n  x"
    assert smollm.encode(text) == library(smollm).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("pre", ["llama-bpe", "llama3"])
def test_a_llama3_prompt_begins_with_its_token_unless_the_file_says_otherwise(pre: str) -> None:
    header = tiny_qwen2.header() | {
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.bos_token_id": START,
    }
    assert Tokenizer(tokenizer_spec(header, vocab=288)).encode("a") == [START, ord("a")]
    header["tokenizer.ggml.add_bos_token"] = False
    assert Tokenizer(tokenizer_spec(header, vocab=288)).encode("a") == [ord("a")]


def test_a_llama3_word_that_is_a_token_needs_no_merges() -> None:
    header = tiny_qwen2.header()
    header |= {"tokenizer.ggml.tokens": [*tiny_qwen2.byte_characters(), "Ġxyz"]}
    header |= {"tokenizer.ggml.token_type": [1] * 257, "tokenizer.ggml.merges": []}
    header |= {"tokenizer.ggml.eos_token_id": 0}
    ids = {}
    for pre in ("llama-bpe", "dbrx"):
        ours = Tokenizer(tokenizer_spec(header | {"tokenizer.ggml.pre": pre}, vocab=257))
        ids[pre] = ours.encode("a xyz")
        assert ids[pre] == library(ours).encode("a xyz", add_special_tokens=False).ids
    assert ids["llama-bpe"] == [ord("a"), 256]
    assert len(ids["dbrx"]) == 5
