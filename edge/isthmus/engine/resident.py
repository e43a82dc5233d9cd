"""A plan that can leave memory while nobody needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isthmus.engine.time_limit import plan_limited
from isthmus.kernels.base import Backend, Batch, KVShape, Op, Plan, Step

LoadOps = Callable[[], Sequence[Op]]
"""Loads the weights again. May raise the engine's errors."""


class ResidentPlan:
    """A `Plan` over `ops` that `unload` frees and the next `run` makes again.

    Its weights are freed with it when `reload` can bring them back; the KV pool always is, so the
    caller has to forget what it held.
    """

    def __init__(
        self,
        backend: Backend,
        ops: Sequence[Op],
        *,
        kv: KVShape,
        max_tokens: int,
        reload: LoadOps | None = None,
    ) -> None:
        self._backend = backend
        self._ops: Sequence[Op] | None = ops
        self._kv = kv
        self._max_tokens = max_tokens
        self._reload = reload
        self._plan: Plan | None = None
        self._made()

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._plan is not None

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def run(self, batch: Batch) -> Step:
        """Run one step, in memory again if need be. Raises what loading raises."""
        return self._made().run(batch)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool. Out of memory the pool holds nothing to copy."""
        if self._plan is not None:
            self._plan.copy_block(source, target)

    def unload(self) -> None:
        """Free the plan, and the weights when they can be loaded again."""
        plan, self._plan = self._plan, None
        if self._reload is not None:
            self._ops = None
        if plan is not None:
            plan.close()

    def close(self) -> None:
        """Free everything."""
        self._ops = None
        self.unload()

    def _made(self) -> Plan:
        if self._plan is None:
            if self._ops is None:
                if self._reload is None:
                    raise RuntimeError("the plan is closed")
                self._ops = self._reload()
            self._plan = plan_limited(
                self._backend, self._ops, kv=self._kv, max_tokens=self._max_tokens
            )
        return self._plan
