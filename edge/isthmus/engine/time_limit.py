"""Calls into a driver that may never return, on a thread that is left behind when one does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from isthmus.kernels.base import F16, Backend, Batch, KVShape, Op, Plan, Step
from isthmus.kernels.errors import DeviceHung

LIMIT_S = 120.0
"""How long a step may take. A backend that is slower is never chosen by measurement either."""
PLAN_LIMIT_S = 600.0
"""How long planning may take: drivers compile then, on phones for minutes."""

_T = TypeVar("_T")
_Returned = tuple[Any, BaseException | None]


class _Caller:
    """Runs calls one after the other on its own thread, until one does not return in time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._returned: SimpleQueue[_Returned] = SimpleQueue()
        self._left = False
        # A daemon: a call that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name=f"isthmus-{name}", daemon=True).start()

    def call(self, function: Callable[[], _T], limit_s: float) -> _T:
        """What `function` returns or raises. Raises `DeviceHung` when it does neither."""
        if self._left:
            raise DeviceHung(f"the {self._name} device hangs")
        self._calls.put(function)
        try:
            value, error = self._returned.get(timeout=limit_s)
        except Empty:
            self.leave()
            raise DeviceHung(
                f"the {self._name} device has not answered for {limit_s:g} s"
            ) from None
        if error is not None:
            raise error
        result: _T = value
        return result

    def leave(self) -> None:
        """Have the thread end, once it is back."""
        self._left = True
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                returned: _Returned = (call(), None)
            except BaseException as error:
                returned = (None, error)
            self._returned.put(returned)
            del call, returned  # the next call may be long in coming


class LimitedPlan:
    """A plan whose calls end with `DeviceHung` where they would not end."""

    def __init__(self, plan: Plan, caller: _Caller) -> None:
        self._plan = plan
        self._caller = caller

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._plan.max_tokens

    def run(self, batch: Batch) -> Step:
        """Run one step."""
        return self._caller.call(partial(self._plan.run, batch), LIMIT_S)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool."""
        self._caller.call(partial(self._plan.copy_block, source, target), LIMIT_S)

    def read_block(self, block: int) -> F16:
        """As `Plan.read_block`."""
        return self._caller.call(partial(self._plan.read_block, block), LIMIT_S)

    def write_block(self, block: int, values: F16) -> None:
        """As `Plan.write_block`."""
        self._caller.call(partial(self._plan.write_block, block, values), LIMIT_S)

    def close(self) -> None:
        """Free what the plan holds, and end the thread."""
        try:
            self._caller.call(self._plan.close, LIMIT_S)
        finally:
            self._caller.leave()


def plan_limited(backend: Backend, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> Plan:
    """`backend.plan`, held to a time where it `may_hang`. Raises as it does, and `DeviceHung`."""
    make = partial(backend.plan, ops, kv=kv, max_tokens=max_tokens)
    if not backend.may_hang:
        return make()
    caller = _Caller(backend.name)
    try:
        return LimitedPlan(caller.call(make, PLAN_LIMIT_S), caller)
    except BaseException:
        caller.leave()
        raise
