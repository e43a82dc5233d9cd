"""What the engine needs to know of a model, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, Protocol

import numpy as np

from isthmus.kernels.base import F32, I32, U8, KVType, QuantizedWeight, RopeStyle


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder-only transformer with grouped-query attention and a gated MLP."""

    architecture: str
    """One of `isthmus.engine.architectures`, for people: the fields below say what to compute."""
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    """The most positions that the model was trained for."""
    rope_base: float
    rope_style: RopeStyle
    norm_eps: float
    tied_embedding: bool
    """The head is the embedding table: there is no `output.weight`."""
    attention_bias: bool = False
    """q, k and v have biases."""
    qk_norm: bool = False
    """Every head of q and k is normed before it is turned."""
    rope_factors: tuple[float, ...] = ()
    """What each rotary frequency is divided by, for longer contexts; none: plain frequencies."""

    def kv_bytes_per_token(self, kv_type: KVType) -> int:
        """Bytes of keys and values of one position in the KV pool."""
        return int(self.layers * 2 * self.kv_heads * self.head_dim * kv_type.bits / 8)


SpacePrefix = Literal["never", "first", "always"]
"""Which text gets a space in front: that at the start of a prompt, or also what follows a control
token or one that is found whole (`prepend_scheme` of Hugging Face's Metaspace)."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenizerSpec:
    """A BPE tokenizer in flat tables, with what a chat needs of it."""

    pre_tokenizer: str
    """One of `words.PRE_TOKENIZERS`, or of `spaces.SPACED` where no words are made."""
    texts: U8
    """The bytes of all tokens, one token after the other. [bytes]"""
    ends: I32
    """Where each token ends in `texts`. [tokens]"""
    byte_ids: I32
    """The token of each byte; -1: it has none. [256]"""
    merges: I32
    """Left and right token, rank, and the token made of them; in order of left and right.
    [merges, 4]"""
    bos_id: int | None
    add_bos: bool
    eos_ids: tuple[int, ...]
    """Every token that ends a turn."""
    special_ids: tuple[int, ...]
    """Control tokens: never matched in a user's text, never shown in an answer."""
    whole_ids: tuple[int, ...]
    """Tokens that are found in a text before it is split into words."""
    chat_template: str
    """Jinja2 source, from the file."""
    space_prefix: SpacePrefix = "never"

    def text(self, token_id: int) -> bytes:
        """The bytes that a token of the table stands for."""
        start = self.ends[token_id - 1] if token_id else 0
        return self.texts[start : self.ends[token_id]].tobytes()

    def same_as(self, other: TokenizerSpec) -> bool:
        """Whether both do the same with every text."""
        names = (field.name for field in fields(self))
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)


class Dense(Protocol):
    """Reads a matrix as it is in the file, before any rounding of ours."""

    def __call__(self, name: str, first: int = 0, last: int | None = None) -> F32:
        """Rows `first` to `last` (to the end) of a matrix. [rows, cols] float32"""
        ...


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, opened. Tensors are read one at a time, by their GGUF names."""

    name: str
    config: ModelConfig
    tokenizer: TokenizerSpec
    tensor_names: tuple[str, ...]
    matrix: Callable[[str], QuantizedWeight]
    """A weight matrix in the canonical form. Unquantized ones are stored as 8 bits, group 32."""
    dense: Dense
    vector: Callable[[str], F32]
    """A norm's weight or a bias. [width] float32"""
