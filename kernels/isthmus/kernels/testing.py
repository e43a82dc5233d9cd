"""A fake for tests, ours and yours: a backend that works until its script says otherwise."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

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


@dataclass(slots=True)
class FlakyBackend:
    """`inner` under another name, with failures at the places named."""

    inner: Backend
    name: str = "flaky"
    steps: Mapping[int, Exception | threading.Event | None] = field(default_factory=dict)
    """What the step of that number raises, counted from 1 over all plans; None: it returns NaN, an
    event: it hangs until that is set."""
    on_plan: Exception | None = None
    on_copy: Exception | None = None
    on_close: Exception | None = None
    may_hang: bool = False
    ran: int = 0
    """Steps so far."""

    @property
    def device(self) -> str:
        """The inner one's."""
        return self.inner.device

    @property
    def kv_types(self) -> tuple[KVType, ...]:
        """The inner one's."""
        return self.inner.kv_types

    @property
    def on_cpu(self) -> bool:
        """The inner one's."""
        return self.inner.on_cpu

    @property
    def driver(self) -> str:
        """The inner one's."""
        return self.inner.driver

    @property
    def layout(self) -> str | None:
        """The inner one's."""
        return self.inner.layout

    def pack(self, weight: QuantizedWeight) -> Packed:
        """Pack as the inner one does."""
        return self.inner.pack(weight)

    def restore(self, state: dict[str, int], data: U8) -> Packed:
        """Restore as the inner one does."""
        return self.inner.restore(state, data)

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> Plan:
        """Plan on the inner one, or fail."""
        if self.on_plan is not None:
            raise self.on_plan
        return _FlakyPlan(self, self.inner.plan(ops, kv=kv, max_tokens=max_tokens))


class _FlakyPlan:
    def __init__(self, script: FlakyBackend, plan: Plan) -> None:
        self._script = script
        self._plan = plan

    @property
    def max_tokens(self) -> int:
        return self._plan.max_tokens

    def run(self, batch: Batch) -> Step:
        script = self._script
        script.ran += 1
        if script.ran not in script.steps:
            return self._plan.run(batch)
        failure = script.steps[script.ran]
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            failure.wait()
        step = self._plan.run(batch)
        logits = step.logits.copy()
        logits[-1:, logits.shape[1] // 2] = np.nan
        return replace(step, logits=logits)

    def copy_block(self, source: int, target: int) -> None:
        if self._script.on_copy is not None:
            raise self._script.on_copy
        self._plan.copy_block(source, target)

    def read_block(self, block: int) -> F16:
        return self._plan.read_block(block)

    def write_block(self, block: int, values: F16) -> None:
        self._plan.write_block(block, values)

    def close(self) -> None:
        self._plan.close()
        if self._script.on_close is not None:
            raise self._script.on_close
