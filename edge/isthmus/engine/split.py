"""Two backends for one model: one computes prompts, the other writes answers.

Each plan has a pool of its own, with the same blocks. A block is brought from one to the other when
a step needs it there and its newest keys and values are not: the prompt's once, before the answer
begins, and the answer's when the conversation goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.resident import LoadOps
from isthmus.kernels.base import (
    F16,
    U8,
    Backend,
    Batch,
    KVShape,
    KVType,
    Op,
    Packed,
    Plan,
    QuantizedWeight,
    Step,
)

_PREFILL, _DECODE = 0, 1
_PROMPT_TOKENS = 16
"""Tokens whose logits nobody wants, from which on a step is a prompt's: fewer are not worth the
copying of blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class SplitBackend:
    """`decode`'s weights are given with the plan, `prefill`'s come from `load_prefill`."""

    prefill: Backend
    decode: Backend
    load_prefill: LoadOps

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.prefill.name}+{self.decode.name}"

    @property
    def device(self) -> str:
        """Both devices."""
        return f"{self.prefill.device}; {self.decode.device}"

    @property
    def kv_types(self) -> tuple[KVType, ...]:
        """Those of both."""
        return tuple(kind for kind in self.decode.kv_types if kind in self.prefill.kv_types)

    @property
    def on_cpu(self) -> bool:
        """Whether both are."""
        return self.prefill.on_cpu and self.decode.on_cpu

    @property
    def may_hang(self) -> bool:
        """Whether one of them may."""
        return self.prefill.may_hang or self.decode.may_hang

    @property
    def driver(self) -> str:
        """Both drivers."""
        return f"{self.prefill.driver}; {self.decode.driver}"

    @property
    def layout(self) -> str | None:
        """The decoding backend's."""
        return self.decode.layout

    def pack(self, weight: QuantizedWeight) -> Packed:
        """For the decoding backend."""
        return self.decode.pack(weight)

    def restore(self, state: dict[str, int], data: U8) -> Packed:
        """For the decoding backend."""
        return self.decode.restore(state, data)

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> Plan:
        """Plan on both."""
        decode = self.decode.plan(ops, kv=kv, max_tokens=max_tokens)
        try:
            prefill = self.prefill.plan(self.load_prefill(), kv=kv, max_tokens=max_tokens)
        except BaseException:
            decode.close()
            raise
        return SplitPlan(prefill, decode, kv)


class SplitPlan:
    """A plan of two."""

    def __init__(self, prefill: Plan, decode: Plan, kv: KVShape) -> None:
        self._plans = (prefill, decode)
        self._block_tokens = kv.block_tokens
        self._newest: NDArray[np.bool_] = np.ones((2, kv.blocks), np.bool_)
        """[plans, blocks] whether the plan's pool has the newest of a block"""
        self.moved = 0
        """Blocks brought from one plan to the other so far."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return min(plan.max_tokens for plan in self._plans)

    def run(self, batch: Batch) -> Step:
        """Run one step on the plan that it suits."""
        silent = len(batch.tokens) - len(batch.rows)
        at = _PREFILL if silent >= _PROMPT_TOKENS else _DECODE
        written: list[int] = []
        for index, table in enumerate(batch.block_tables):
            positions = batch.positions[batch.sequence == index]
            if not len(positions):
                continue
            first, last = int(positions.min()), int(positions.max())
            # What lies before the first position is read; its own block may be read and written.
            for number, block in enumerate(table[: -(-first // self._block_tokens)]):
                self._bring(int(block), at, positions=first - number * self._block_tokens)
            used = slice(first // self._block_tokens, last // self._block_tokens + 1)
            written += [int(block) for block in table[used]]
        step = self._plans[at].run(batch)
        self._newest[at, written] = True
        self._newest[1 - at, written] = False
        return step

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block where its newest is."""
        for at, plan in enumerate(self._plans):
            if self._newest[at, source]:
                plan.copy_block(source, target)
        self._newest[:, target] = self._newest[:, source]

    def read_block(self, block: int) -> F16:
        """From where its newest is."""
        return self._plans[int(self._newest[:, block].argmax())].read_block(block)

    def write_block(self, block: int, values: F16) -> None:
        """To both."""
        for plan in self._plans:
            plan.write_block(block, values)
        self._newest[:, block] = True

    def close(self) -> None:
        """Free both."""
        try:
            self._plans[_PREFILL].close()
        finally:
            self._plans[_DECODE].close()

    def _bring(self, block: int, to: int, *, positions: int) -> None:
        """Have a block's first `positions` in the pool of plan `to`."""
        if not self._newest[to, block]:
            values = self._plans[1 - to].read_block(block)
            values[..., positions:, :] = 0
            self._plans[to].write_block(block, values)
            self._newest[to, block] = True
            self.moved += 1
