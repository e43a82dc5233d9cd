"""The sentence of `isthmus route explain`: every decision says in plain words what decided it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.cli.route_why import why
from isthmus.core.chat import RouteMode
from isthmus.core.decision import Decision, Reason, Target
from isthmus.router.budget import BudgetState, PeriodState
from isthmus.router.config import RouterConfig
from isthmus.router.policy import decide
from isthmus.router.quality import Quality
from isthmus.router.signals import Signals
from routing_cases import EASY, HARD, PRICED, REDACTED, asking

CONFIG = RouterConfig()


def said(signals: Signals, config: RouterConfig = CONFIG) -> str:
    return why(decide(signals, config))


def test_a_choice_by_worth_tells_both_chances_and_the_gain_that_is_needed() -> None:
    assert said(HARD) == (
        "The cloud answers, because of 100 such requests the cloud is expected to answer 90 well "
        "and the device 30, a gain of 60, and the cloud is worth its cost from a gain of 35 on."
    )
    assert said(EASY).startswith("The device answers, because of 100 such requests")


def test_a_guess_says_that_it_is_one_and_how_much_of_it_is_believed() -> None:
    sentence = said(replace(HARD, quality=Quality(0.4, 1.0)))
    assert "a gain of 30 believed" in sentence
    assert "Nobody has labelled questions with this pair" in sentence


def test_a_target_without_a_threshold_names_the_command_that_makes_one() -> None:
    assert "isthmus route calibrate" in said(HARD, RouterConfig(min_quality_share=0.95))
    kept = said(HARD, RouterConfig(max_cloud_share=0.2, threshold=0.5))
    assert "the threshold asks for 50" in kept
    assert "isthmus route calibrate" not in kept


def test_a_price_above_every_worth_is_no_number_of_six_digits() -> None:
    ahead = BudgetState(day=PeriodState(10**6, 999_000, 0.1))
    sentence = said(replace(HARD, cloud=PRICED, budget=ahead))
    assert "the cloud's cost is more than any gain is worth" in sentence
    assert "Spending runs ahead of its pace" in sentence


def test_where_quality_is_worth_nothing_it_says_so() -> None:
    assert "quality is worth nothing" in said(HARD, RouterConfig(good_answer_usd=0))


def test_a_rule_is_named_and_so_is_what_happens_to_values() -> None:
    forced = said(asking(RouteMode.ONLY_ON_DEVICE))
    assert forced == "The device answers, because the request or the preset allows nothing else."
    assert said(replace(HARD, privacy=REDACTED)).endswith("Private values leave as placeholders.")


@pytest.mark.parametrize("reason", Reason)
def test_no_reason_that_can_decide_is_without_its_words(reason: Reason) -> None:
    told = decide(HARD, CONFIG)
    after_the_decision = {
        Reason.PRIVACY_BLOCKED, Reason.SHADOW, Reason.DOUBT_AFTER_PREFILL,
        Reason.DOUBT_WHILE_DECODING, Reason.REPETITION, Reason.SAMPLES_DISAGREE, Reason.BROKEN_JSON,
        Reason.FELL_BACK, Reason.HANDED_OVER,
    }  # fmt: skip
    by_gain = {Reason.VALUE_ON_EDGE, Reason.VALUE_IN_CLOUD, Reason.EASY, Reason.HARD}

    def sentence(*reasons: Reason) -> str:
        return why(Decision(Target.CLOUD, reasons, told.scores, told.thresholds))

    rules = "of 100 such requests" not in sentence(reason)
    adds = sentence(Reason.HARD, reason) != sentence(Reason.HARD)
    assert (rules or adds) is (reason not in after_the_decision | by_gain)
