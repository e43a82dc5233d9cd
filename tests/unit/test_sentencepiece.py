"""SentencePiece vocabularies: tokens as SentencePiece and Hugging Face's library give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import tiny_sentencepiece
from gguf_files import write_tiny
from isthmus.core.chat import Message, Role, TextPart
from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.formats.hf_tokenizer import tokenizer_spec as spec_of_folder
from isthmus.engine.formats.tokenizer_json import tokenizer_json
from isthmus.engine.formats.vocabulary import tokenizer_spec
from isthmus.engine.model import TokenizerSpec
from isthmus.engine.template import ChatTemplate
from isthmus.engine.tokens.bpe import PlainBpe
from isthmus.engine.tokens.tokenizer import Segment, StreamDecoder, Tokenizer

VOCAB = tiny_sentencepiece.VOCAB
THEIRS = tiny_sentencepiece.processor()
BOS, EOS = THEIRS.bos_id(), THEIRS.eos_id()


def spec(**changes: Any) -> TokenizerSpec:
    keys = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return tokenizer_spec(tiny_sentencepiece.header() | keys, vocab=VOCAB)


OURS = Tokenizer(spec())
PIECES = st.sampled_from(
    [*" \n\t▁中é😀\u3000\x00", "  ", "     ", "the", " of", "人工智能", "def f(x):\n    return",
     "12345", "e\u0301", "<s>", "</s>", "<0x0A>", "<unk>", "👩‍👩‍👧", "self._", "ß§"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(st.characters(codec="utf-8"), max_size=4), max_size=12).map(
    "".join
)


@given(TEXTS)
def test_every_text_has_the_tokens_that_sentencepiece_gives(text: str) -> None:
    assert OURS.encode(text) == [BOS, *THEIRS.encode(text)]


@given(TEXTS)
def test_every_text_comes_back_as_it_was(text: str) -> None:
    # To SentencePiece U+2581 is a space, and stays one.
    assert OURS.decode(OURS.encode(text)) == text.replace("▁", " ")


@given(TEXTS)
def test_merging_without_native_code_gives_the_same(text: str) -> None:
    plain = PlainBpe(OURS.spec.byte_ids, OURS.spec.merges)
    start = [OURS.spec.byte_ids[byte] for byte in text.encode()]
    letters = np.array([i for i in (THEIRS.piece_to_id(c) for c in text) if i > EOS], np.int32)
    for tokens in (np.array(start, np.int32), letters):
        assert OURS._pieces._bpe.merge(tokens) == plain.merge(tokens)  # type: ignore[union-attr]


def test_known_words_are_known_tokens() -> None:
    pieces = [OURS.token_bytes(i) for i in OURS.encode("the 中文 😀")]
    assert pieces[:4] == [b"<s>", b" the", " 中文".encode(), b" "]
    assert pieces[4:] == [bytes((byte,)) for byte in "😀".encode()]


def test_a_character_in_bytes_is_shown_with_its_last_one() -> None:
    stream = StreamDecoder(OURS)
    shown = [stream.push(i) for i in OURS.encode("a😀")]
    assert "".join(shown) == "a😀"
    assert shown[-4:] == ["", "", "", "😀"]


def test_an_answer_loses_the_space_that_no_one_wrote_and_no_other() -> None:
    word = OURS.encode("the", from_start=False)[-1:]
    said = OURS.encode(" the", from_start=False)
    assert OURS.token_bytes(said[0]) == b" the"
    at_start, in_text = StreamDecoder(OURS, after=[BOS]), StreamDecoder(OURS, after=word)
    assert [at_start.push(i) for i in (*said, *said)] == ["the", " the"]
    assert in_text.push(said[0]) == " the"


def test_only_a_text_that_begins_gets_the_space() -> None:
    whole, rest = OURS.encode("the "), OURS.encode("of", from_start=False)
    assert OURS.encode([Segment("the "), Segment("of")]) == [*whole, *rest]
    after_control = OURS.encode([Segment("</s>", is_control=True), Segment("the")])
    assert after_control[-1] == OURS.encode("the")[-1]
    assert OURS.encode("") == [BOS]


def test_a_file_may_do_without_the_space() -> None:
    bare = Tokenizer(spec(add_space_prefix=False))
    assert bare.encode("the") == [BOS, *OURS.encode("the", from_start=False)]
    assert bare.decode(bare.encode(" the")) == " the"


def test_texts_that_look_like_control_tokens_stay_text() -> None:
    ids = OURS.encode("a</s><s><unk>")
    assert not {EOS, THEIRS.unk_id()} & set(ids)
    assert ids.count(BOS) == 1


def test_a_users_own_token_is_found_whole_and_begins_what_follows() -> None:
    tokens = [*tiny_sentencepiece.header()["tokenizer.ggml.tokens"][:-1], "<tool>"]
    types = [*tiny_sentencepiece.header()["tokenizer.ggml.token_type"][:-1], 4]
    ours = Tokenizer(spec(tokens=tokens, token_type=types))
    the = ours.encode("the")[1:]
    assert ours.encode("the<tool>the") == [BOS, *the, VOCAB - 1, *the]
    assert ours.decode(ours.encode("the<tool>the")) == "the<tool>the"


def library(form: str) -> tokenizers.Tokenizer:
    """Hugging Face's library with this vocabulary, in a form that published models have."""
    described = json.loads(tokenizer_json(OURS.spec))["model"]
    merges = [tuple(pair) for pair in described["merges"]]
    theirs = tokenizers.Tokenizer(
        models.BPE(described["vocab"], merges, byte_fallback=True, fuse_unk=True)
    )
    replace = normalizers.Replace(" ", "▁")
    if form == "llama":
        theirs.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif form == "gemma":
        theirs.normalizer = replace
        theirs.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=form, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if form not in {"gemma", "never"}:
        steps.append(decoders.Strip(" ", 1, 0))
    theirs.decoder = decoders.Sequence(steps)
    theirs.add_special_tokens(["<s>", "</s>", "<unk>"])
    return theirs


def read_folder(folder: Path, described: str, **config: Any) -> TokenizerSpec:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(described, "utf-8")
    words = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return spec_of_folder(folder, vocab=VOCAB)


FORMS = ("llama", "gemma", "always", "first", "never")


@pytest.fixture(scope="module", params=FORMS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    theirs = library(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    return Tokenizer(read_folder(folder, theirs.to_str())), theirs


@given(text=TEXTS, after=TEXTS)
def test_a_tokenizer_file_is_read_as_its_library_reads_it(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str, after: str
) -> None:
    ours, theirs = pair
    theirs.encode_special_tokens = True
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    theirs.encode_special_tokens = False
    for control in OURS.control_tokens:
        text, after = (t.replace(control, "") for t in (text, after))
    turns = [Segment("<s>", is_control=True), Segment(text), Segment("</s>", is_control=True)]
    prompt = f"<s>{text}</s>{after}"
    assert ours.encode([*turns, Segment(after)]) == theirs.encode(prompt).ids


@given(text=TEXTS)
def test_an_answer_is_shown_as_the_library_shows_it(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str
) -> None:
    ours, theirs = pair
    ids = ours.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("form", FORMS)
def test_a_written_tokenizer_is_read_again_as_the_same(form: str, tmp_path: Path) -> None:
    first = read_folder(tmp_path / "a", library(form).to_str())
    written = tokenizer_json(first)
    again = read_folder(tmp_path / "b", written)
    for name in ("texts", "ends", "byte_ids", "merges"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.pre_tokenizer, first.space_prefix) == (again.pre_tokenizer, again.space_prefix)
    theirs, text = tokenizers.Tokenizer.from_str(written), "  two words\n"
    assert theirs.encode(text).ids == Tokenizer(first).encode(text)


def test_a_conversation_in_llama2s_form_has_its_tokens() -> None:
    template = ChatTemplate.of(OURS)
    said = ((Role.USER, "the"), (Role.ASSISTANT, "of"), (Role.USER, "and"))
    turns = tuple(Message(role, (TextPart(text),)) for role, text in said)
    ids = OURS.encode(template.render(turns).segments)
    first = THEIRS.encode("[INST] the [/INST] of ")
    assert ids == [BOS, *first, EOS, *THEIRS.encode("[INST] and [/INST]")]


def test_a_gguf_file_brings_it_along(tmp_path: Path) -> None:
    cut = {
        key: value[:288] if isinstance(value, list) else value
        for key, value in tiny_sentencepiece.header().items()
    }
    opened = read_gguf(write_tiny(tmp_path / "m.gguf", tokenizer=cut))
    assert Tokenizer(opened.tokenizer).encode("x y")[0] == BOS
    assert opened.tokenizer.eos_ids == (EOS,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": None},
        {"scores": [0.0]},
        {"scores": [float("nan")] * VOCAB},
        {"scores": ["high"] * VOCAB},
        {"tokens": ["a"] * VOCAB},
    ],
)
def test_a_vocabulary_that_does_not_fit_together_is_damage(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelDamaged):
        spec(**wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}},
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_with_those_that_are_known(
    change: dict[str, Any], tmp_path: Path
) -> None:
    described = json.loads(library("llama").to_str()) | change
    with pytest.raises(ModelNotSupported, match=r"SentencePiece's BPE.*byte-level BPE.*qwen2"):
        read_folder(tmp_path / "t", json.dumps(described))


def test_a_token_of_a_million_characters_takes_no_time_to_take_apart() -> None:
    tokens = [*tiny_sentencepiece.header()["tokenizer.ggml.tokens"][:-1], "a" * (1 << 20)]
    assert Tokenizer(spec(tokens=tokens)).encode("aa") == OURS.encode("aa")
