"""What each tier still has of a conversation."""

from __future__ import annotations

from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Target
from isthmus.core.events import Delta, Started
from isthmus.edge.sessions import CACHE_LIFE_S, Sessions
from isthmus.edge.trail import Trail
from isthmus.router.signals import Session


def answered(*legs: tuple[Target, int, int]) -> Trail:
    trail = Trail(ChatRequest("r", ()))
    for target, prompt, completion in legs:
        leg = trail.start(target)
        leg.started(Started("m", prompt))
        for _ in range(completion):
            leg.wrote(Delta("x"))
            trail.show(leg, Delta("x"))
    return trail


def test_who_answered_last_has_prompt_and_answer_in_its_cache() -> None:
    sessions = Sessions()
    sessions.remember("c", answered((Target.EDGE, 100, 5)))
    assert sessions.find("c", 300) == Session(Target.EDGE, 105, 0)
    sessions.remember("c", answered((Target.CLOUD, 140, 10)))
    assert sessions.find("c", 300) == Session(Target.CLOUD, 105, 150)
    assert sessions.find("other", 300) == Session()


def test_no_more_is_cached_than_the_prompt_has_before_its_question() -> None:
    sessions = Sessions()
    sessions.remember("c", answered((Target.EDGE, 100, 5)))
    assert sessions.find("c", 50).edge_cached_tokens == 49


def test_a_tier_that_showed_nothing_is_not_remembered() -> None:
    sessions = Sessions()
    sessions.remember("c", answered((Target.CLOUD, 100, 0)))
    assert sessions.find("c", 300) == Session()


def test_old_caches_are_taken_to_be_gone_and_the_oldest_conversations_forgotten() -> None:
    now = [0.0]
    sessions = Sessions(capacity=2, clock=lambda: now[0])
    for name in ("a", "b", "c"):
        sessions.remember(name, answered((Target.EDGE, 100, 5)))
    assert sessions.find("a", 300) == Session()
    now[0] = CACHE_LIFE_S + 1
    assert sessions.find("c", 300) == Session(Target.EDGE, 0, 0)
