"""Which upstream a request goes to, and when one is left alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from isthmus.cloud.upstreams.choice import Candidate, choose, prefix_of
from isthmus.cloud.upstreams.config import UpstreamsConfig
from isthmus.cloud.upstreams.outliers import Outlier
from isthmus.cloud.upstreams.progress import Progress
from isthmus.core import chat
from isthmus.core.events import Delta, Finished, FinishReason, Started
from isthmus.core.money import Usage

PREFIXES = [bytes([i, j]) for i in range(40) for j in range(50)]


def candidates(*names, load=0.0, weight=1.0):
    return [Candidate(name, load, weight) for name in names]


def favourites(found):
    rng = random.Random(0)
    return [found[choose(found, prefix, rng)].key for prefix in PREFIXES]


def test_conversations_spread_evenly_and_each_has_one_favourite():
    chosen = favourites(candidates("a", "b", "c", "d"))
    assert chosen == favourites(candidates("d", "b", "a", "c"))
    assert all(430 < count < 570 for count in Counter(chosen).values())


def test_few_conversations_move_when_an_upstream_goes():
    before = favourites(candidates("a", "b", "c", "d"))
    after = favourites(candidates("a", "b", "d"))
    assert all(one == other for one, other in zip(before, after, strict=True) if one != "c")
    assert "c" not in after


def test_one_that_starts_slowly_gets_its_share_of_conversations():
    found = [*candidates("a", "b"), Candidate("new", 0.0, 0.1)]
    assert 0.02 < Counter(favourites(found))["new"] / len(PREFIXES) < 0.08


def test_a_favourite_with_more_than_its_share_of_the_load_is_left():
    rng = random.Random(0)
    free = candidates("a", "b", "c", load=10)
    prefix = next(p for p in PREFIXES if free[choose(free, p, rng)].key == "a")
    assert choose([Candidate("a", 13), *free[1:]], prefix, rng) == 0
    assert choose([Candidate("a", 20), *free[1:]], prefix, rng) != 0


def test_without_a_conversation_the_less_loaded_of_two_is_taken():
    rng = random.Random(0)
    found = [Candidate("a", 5), Candidate("b", 1), Candidate("c", 9)]
    chosen = Counter(found[choose(found, None, rng)].key for _ in range(300))
    assert chosen["c"] == 0
    assert 150 < chosen["b"] < 250


def message(role, text):
    return chat.Message(role, (chat.TextPart(text),))


def test_all_turns_of_a_conversation_have_one_prefix_and_other_tenants_another():
    system, first = message(chat.Role.SYSTEM, "be kind"), message(chat.Role.USER, "hello")
    later = (message(chat.Role.ASSISTANT, "hi"), message(chat.Role.USER, "and now?"))
    one = chat.ChatRequest("r", (system, first))
    assert prefix_of(one) == prefix_of(chat.ChatRequest("s", (system, first, *later)))
    assert prefix_of(one) != prefix_of(replace(one, cache_salt="tenant"))
    assert prefix_of(one) != prefix_of(chat.ChatRequest("r", (system, later[1])))


def outlier(**settings):
    config = UpstreamsConfig(eject_after=3, eject_s=10, max_eject_s=35, **settings)
    return Outlier(config, rng=random.Random(1))


def test_failures_in_a_row_eject_for_longer_each_time_up_to_a_limit():
    record, now_s, lengths = outlier(), 0.0, []
    for _ in range(4):
        assert [record.failed(now_s) for _ in range(3)] == [False, False, True]
        record.eject(now_s)
        assert record.ejected(now_s)
        lengths.append(record.ejected_until_s - now_s)
        now_s = record.ejected_until_s
        assert not record.ejected(now_s)
    assert lengths == pytest.approx([10, 20, 35, 35], rel=0.11)


def test_good_times_make_up_for_bad_ones():
    record = outlier()
    record.eject(0)
    record.eject(20)
    record.succeeded(100)
    for now_s in (100, 100, 100):
        record.failed(now_s)
    record.eject(100)
    assert record.ejected_until_s - 100 == pytest.approx(20, rel=0.11)


def test_one_success_between_failures_does_not_hide_that_most_requests_fail():
    record = outlier()
    told = []
    for i in range(12):
        if i % 3 == 2:
            record.succeeded(i)
        else:
            told.append(record.failed(i))
    assert told[-1]
    assert not any(told[:6])


STOPPED = chat.ChatRequest(
    "r",
    (message(chat.Role.USER, "count"),),
    sampling=chat.Sampling(stop=("five", "iv")),
    max_tokens=20,
)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["four ", "fi"], ["ve", " six"], "four fi"),
        (["four ", "f"], ["i", "ve six"], "four fi"),
        (["four ", "fi"], ["ne", " six"], "four fine six"),
        (["four "], ["six"], "four six"),
    ],
)
def test_a_stop_text_over_the_seam_of_two_upstreams_ends_the_answer(before, after, told):
    progress = Progress(STOPPED)
    seen = [*progress.see(Started("m", 4))]
    for text in before:
        seen += progress.see(Delta(text))
    assert progress.broke() is None
    assert progress.rest().max_tokens == 20 - len(before)
    for text in after:
        seen += progress.see(Delta(text))
        if isinstance(seen[-1], Finished):
            break
    assert "".join(one.text for one in seen if isinstance(one, Delta)) == told
    ended = isinstance(seen[-1], Finished)
    assert ended == (told == "four fi")
    if ended:
        assert seen[-1].reason is FinishReason.STOP


def test_the_prompt_is_counted_once_over_all_upstreams():
    progress = Progress(STOPPED)
    progress.see(Started("m", 4, 3))
    progress.see(Delta("one two", 2))
    progress.broke()
    assert progress.see(Started("m", 6)) == ()
    progress.see(Delta(" three", 1))
    (end,) = progress.see(Finished(FinishReason.STOP, Usage(6, 2, 5)))
    assert end.usage == Usage(4, 4, 3)
