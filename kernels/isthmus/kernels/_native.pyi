from collections.abc import Sequence

from isthmus.kernels.base import F32, I32, U8
from isthmus.kernels.tiled_weights import PackedTiles

sources: str
"""The digest of what it was built from (`compiled.digest`)."""

def runnable_kernels() -> str: ...
def read_bandwidth(bytes: int, threads: int, passes: int) -> float: ...
def matmul(packed: PackedTiles, x: F32, out: F32, isa: str, planes: int) -> None: ...

class Bpe:
    def __init__(self, byte_ids: I32, merges: I32) -> None: ...
    def encode(self, words: Sequence[bytes]) -> list[int]: ...
    def merge(self, tokens: I32) -> list[int]: ...

class Builder:
    def __init__(self) -> None: ...
    def add(
        self,
        kind: int,
        packed: object | None = None,
        vector: F32 | None = None,
        eps: float = 0.0,
        layer: int = 0,
        heads: int = 0,
        kv_heads: int = 0,
        head_dim: int = 0,
        rope_base: float = 0.0,
        rope_halves: bool = False,
        rope_factors: F32 | None = None,
        q_norm: F32 | None = None,
        k_norm: F32 | None = None,
    ) -> None: ...

class Plan:
    def __init__(
        self,
        builder: Builder,
        isa: str,
        threads: int,
        planes: int,
        kv_type: int,
        kv_blocks: int,
        max_tokens: int,
    ) -> None: ...
    def copy_block(self, source: int, target: int) -> None: ...
    @property
    def block_bytes(self) -> int: ...
    def read_block(self, block: int, to: U8) -> None: ...
    def write_block(self, block: int, from_: U8) -> None: ...
    def run(
        self,
        tokens: I32,
        positions: I32,
        sequence: I32,
        block_tables: I32,
        rows: I32,
        greedy: bool,
        logits: F32,
        hidden: F32 | None = None,
    ) -> int: ...
