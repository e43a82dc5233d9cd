"""Who may run, who waits and in which order, and who is told to come back."""

from __future__ import annotations

import asyncio

import pytest

from isthmus.cloud.admission import Admission, Shed
from isthmus.core.chat import Priority
from isthmus.core.deadline import Deadline
from isthmus.core.errors import Overloaded, Unavailable
from waiting import eventually

INTERACTIVE, NORMAL, BATCH = Priority


class Desk:
    """Requests that hold their slot until they are told to let go; `order` is who had one."""

    def __init__(self, **settings):
        self.shed, self.waited, self.order = [], [], []
        self.admission = Admission(
            **({"max_running": 1, "max_waiting": 2} | settings),
            shed=self.shed.append,
            waited=lambda priority, seconds: self.waited.append(priority),
        )
        self._doors = {}

    async def come(self, name, priority=NORMAL, deadline=Deadline.NEVER):
        self._doors[name] = asyncio.Event()

        async def visit():
            async with self.admission.slot(priority, deadline):
                self.order.append(name)
                await self._doors[name].wait()

        task = asyncio.create_task(visit())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def leave(self, name):
        self._doors[name].set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_who_waits_is_served_by_priority_and_then_by_arrival():
    desk = Desk(max_waiting=9)
    await desk.come("first")
    for name, priority in (("b", BATCH), ("n1", NORMAL), ("i", INTERACTIVE), ("n2", NORMAL)):
        await desk.come(name, priority)
    for name in ("first", "i", "n1", "n2", "b"):
        await desk.leave(name)
    assert desk.order == ["first", "i", "n1", "n2", "b"]
    assert (desk.admission.running, desk.admission.waiting) == (0, 0)
    assert len(desk.waited) == 5


async def test_a_full_queue_refuses_and_says_when_to_come_back():
    desk = Desk()
    for name in ("runs", "waits", "waits too"):
        await desk.come(name)
    refused = await desk.come("one too many")
    with pytest.raises(Overloaded) as caught:
        await refused
    assert caught.value.retry_after_s > 0
    assert desk.shed == [Shed.QUEUE_FULL]


async def test_a_full_queue_makes_room_for_a_higher_priority_at_the_cost_of_the_latest_lower_one():
    desk = Desk()
    await desk.come("runs")
    early, late = await desk.come("early", BATCH), await desk.come("late", BATCH)
    await desk.come("urgent", INTERACTIVE)
    with pytest.raises(Overloaded):
        await late
    assert desk.shed == [Shed.PUSHED_OUT]
    refused = await desk.come("batch again", BATCH)
    with pytest.raises(Overloaded):
        await refused
    await desk.leave("runs")
    await desk.leave("urgent")
    assert desk.order == ["runs", "urgent", "early"]
    assert not early.done()


async def test_a_request_whose_deadline_would_pass_in_the_queue_is_refused_when_it_comes():
    desk = Desk(max_waiting=50)
    await desk.come("teaches how long it takes")
    await asyncio.sleep(0.02)
    await desk.leave("teaches how long it takes")
    for n in range(40):
        await desk.come(n)
    hopeless = await desk.come("hopeless", deadline=Deadline.after(0.05))
    with pytest.raises(Overloaded, match="deadline") as caught:
        await hopeless
    assert caught.value.retry_after_s > 0.05
    assert desk.shed == [Shed.DEADLINE]
    patient = await desk.come("patient", deadline=Deadline.after(60))
    urgent = await desk.come("urgent", INTERACTIVE, Deadline.after(5))
    assert not patient.done()
    assert not urgent.done()


async def test_one_that_leaves_the_queue_leaves_no_gap_and_no_slot_behind():
    desk = Desk()
    await desk.come("runs")
    leaving, staying = await desk.come("leaving"), await desk.come("staying")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert desk.admission.waiting == 1
    await desk.leave("runs")
    assert desk.order == ["runs", "staying"]
    await desk.leave("staying")
    assert desk.admission.running == 0
    assert staying.done()


async def test_one_that_leaves_as_its_turn_comes_passes_it_on():
    desk = Desk()
    await desk.come("runs")
    leaving = await desk.come("leaving")
    await desk.come("next")
    desk._doors["runs"].set()
    await asyncio.sleep(0)
    leaving.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert desk.order == ["runs", "next"]
    assert desk.admission.running == 1


async def test_a_backend_that_drowns_gets_no_more_until_it_has_worked_something_off():
    drowning = False
    desk = Desk(max_running=4, max_waiting=9, drowning=lambda: drowning)
    for name in "ab":
        await desk.come(name)
    drowning = True
    for name in "cdef":
        await desk.come(name)
    await desk.leave("a")
    assert desk.order == ["a", "b"]
    drowning = False
    await desk.leave("b")
    assert desk.order == ["a", "b", "c", "d"]


async def test_who_was_held_back_gets_a_turn_when_others_leave_the_backend(monkeypatch):
    monkeypatch.setattr("isthmus.cloud.admission._LOOK_AGAIN_S", 0.001)
    drowning = True
    desk = Desk(max_running=4, max_waiting=9, drowning=lambda: drowning)
    for name in "abc":
        await desk.come(name)
    await asyncio.sleep(0.02)
    assert desk.order == ["a"]
    drowning = False
    assert await eventually(lambda: desk.order == ["a", "b", "c"])  # nobody has left meanwhile


async def test_a_drowning_backend_that_has_nothing_of_ours_still_gets_one():
    desk = Desk(max_running=4, drowning=lambda: True)
    await desk.come("a")
    await desk.come("b")
    assert desk.order == ["a"]
    await desk.leave("a")
    assert desk.order == ["a", "b"]


async def test_everybody_who_waits_can_be_turned_away():
    desk = Desk()
    await desk.come("runs")
    waiting = [await desk.come("one"), await desk.come("other", BATCH)]
    desk.admission.turn_away(Unavailable("stopping", retry_after_s=0.1))
    for task in waiting:
        with pytest.raises(Unavailable):
            await task
    assert desk.shed == [Shed.DRAINING] * 2
    await desk.leave("runs")
    assert desk.admission.running == 0
