"""A request on its way to the cloud: what the next attempt asks for, and when there is none."""

from __future__ import annotations

import pytest

from asked import anew
from isthmus.core.deadline import Deadline
from isthmus.core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    Unavailable,
)
from isthmus.core.events import Delta, DraftVerdict, Finished, FinishReason, Started, ToolCallDelta
from isthmus.edge.progress import Broken, Progress, Unreachable


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def progress_of(request=None, *events, clock=None, **bounds):
    settings = {"silent_s": 2.0, "broken_s": 10.0, "clock": clock or Clock()} | bounds
    progress = Progress(request or anew(), **settings)
    progress.next()
    for event in events:
        progress.take(event)
    return progress


STARTED = Started("m", 3)
TEXT = Delta("Paris", 1), Delta(" is", 2)


def test_the_first_attempt_is_the_request_itself():
    request = anew()
    assert Progress(request, silent_s=1, broken_s=1).next() is request


def test_before_the_start_there_is_nothing_to_bring():
    progress = progress_of()
    assert progress.next().received is None


def test_the_next_attempt_brings_what_came():
    asked = progress_of(None, STARTED, *TEXT).next()
    assert (asked.received, asked.received_tokens) == ("Paris is", 3)


def test_what_stands_of_a_draft_was_received_too():
    verdict = DraftVerdict(True, len(" is"), 1, 2)
    asked = progress_of(anew(draft=" is the"), Started("m", 3, draft=verdict), Delta(" a")).next()
    assert (asked.received, asked.received_tokens, asked.draft) == (" is a", 2, " is the")


def test_the_caller_hears_of_the_start_once():
    progress = progress_of(None, STARTED, *TEXT)
    assert progress.take(STARTED) is None
    assert progress.take(Delta(" the")) == Delta(" the")
    assert progress.take(Finished(FinishReason.STOP))
    assert progress.next().received == "Paris is the"


@pytest.mark.parametrize(
    "error",
    [Broken("reset"), Unavailable("stopping", retry_after_s=0.1)],
    ids=["reset", "sent away"],
)
@pytest.mark.parametrize("events", [(), (STARTED, *TEXT)], ids=["before", "after"])
def test_what_another_call_can_cure_is_tried_again(error, events):
    assert progress_of(None, *events).pause_s(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("no upstream is left"),
        InvalidRequest("bad"),
        AlreadyExists("taken"),
        DeadlineExceeded("late"),
        InternalError("oops"),
        Overloaded("full"),
        QuotaExceeded("spent"),
        Unreachable("nobody there"),
    ],
    ids=lambda error: error.kind,
)
def test_what_no_other_call_cures_is_how_it_ends(error):
    progress = progress_of(None, STARTED, *TEXT)
    assert progress.pause_s(error) is None
    assert progress.failure(error) is error


def test_a_gateway_that_is_away_or_full_while_an_answer_is_gone_on_with_is_waited_for():
    progress = progress_of(None, STARTED, *TEXT)
    first = Broken("killed")
    assert progress.pause_s(first) is not None
    progress.next()
    for error in (Unreachable("nobody there"), Overloaded("full", retry_after_s=0.5)):
        assert progress.pause_s(error) is not None
    assert progress.failure(Unreachable("nobody there")) is first


def test_patience_ends_sooner_before_the_first_piece_than_after_it():
    for events, patience_s in (((STARTED,), 2.0), ((STARTED, *TEXT), 10.0)):
        clock = Clock()
        progress = progress_of(None, *events, clock=clock)
        assert progress.pause_s(Broken("reset")) is not None
        clock.now_s = patience_s - 0.1
        assert progress.pause_s(Broken("reset")) is not None
        clock.now_s = patience_s + 0.1
        assert progress.pause_s(Broken("reset")) is None


def test_a_piece_renews_the_patience():
    clock = Clock()
    progress = progress_of(None, STARTED, *TEXT, clock=clock)
    assert progress.pause_s(Broken("reset")) is not None
    clock.now_s = 9.0
    progress.take(Delta(" the"))
    clock.now_s = 18.0
    assert progress.pause_s(Broken("reset")) is not None


def test_a_part_of_a_tool_call_is_not_gone_on_from():
    call = Delta("", tool_calls=(ToolCallDelta(0, "c", "f", "{"),))
    assert progress_of(None, STARTED, call).pause_s(Broken("reset")) is None


def test_nobody_waits_beyond_the_deadline():
    request = anew(deadline=Deadline.after(0.2))
    away = Unavailable("stopping", retry_after_s=60)
    assert progress_of(request, STARTED, *TEXT, broken_s=600).pause_s(away) is None


def test_pauses_grow_and_attempts_are_bounded():
    clock = Clock()
    progress = progress_of(None, STARTED, *TEXT, clock=clock, broken_s=1e6)
    pauses = []
    while (pause_s := progress.pause_s(Broken("reset"))) is not None:
        pauses.append(pause_s)
        progress.next()
    assert len(pauses) == 11
    assert pauses[0] <= 0.02
    assert 0.5 <= pauses[-1] <= 1.0


def test_a_gateway_that_is_not_there_yet_uses_up_no_attempts():
    progress = progress_of(None, STARTED, *TEXT, broken_s=1e6)
    for _ in range(50):
        progress.next()
        assert progress.pause_s(Unreachable("nobody there")) is not None


def test_the_last_attempt_is_made_at_the_end_of_the_patience():
    clock = Clock()
    progress = progress_of(None, STARTED, *TEXT, clock=clock)
    progress.next()
    tried_s = []
    while (pause_s := progress.pause_s(Unreachable("nobody there"))) is not None:
        clock.now_s += pause_s
        tried_s.append(clock.now_s)
        progress.next()
    assert 9.9 < tried_s[-1] <= 10.0
