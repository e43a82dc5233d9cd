"""A small vocabulary that SentencePiece itself trains, in the forms that models come with."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece

ROOT = Path(__file__).parent.parent
VOCAB = 700
LLAMA2 = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ ' ' + message.content + ' ' + eos_token }}{% else %}"
    "{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"
)


@cache
def processor() -> Any:
    """SentencePiece with a vocabulary as llama's: BPE, bytes to fall back on, digits apart."""
    code = (ROOT / "edge" / "isthmus" / "engine" / "tokens" / "tokenizer.py").read_text("utf-8")
    prose = (ROOT / "tests" / "kernels" / "golden" / "text.txt").read_text("utf-8")
    lines = [*prose.splitlines(), *code.splitlines(), *["中文 人工智能 你好，中国"] * 5]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB,
        byte_fallback=True,
        character_coverage=0.999,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@cache
def header() -> dict[str, Any]:
    """The tokenizer's key/values in a GGUF file, as llama.cpp's converter writes them."""
    model = processor()
    ids = range(model.get_piece_size())
    kinds = ((2, model.is_unknown), (3, model.is_control), (6, model.is_byte))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [
            next((kind for kind, is_one in kinds if is_one(i)), 1) for i in ids
        ],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.chat_template": LLAMA2,
    }
