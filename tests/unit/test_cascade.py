"""The third look: an answer that is watched while it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.router.doubt.cascade import Doubt, Verdict, Watch, WatchConfig
from isthmus.router.doubt.forms import FormCheck
from isthmus.router.doubt.repetition import Repetition

STORY = (
    "The harbour was quiet that morning. Two boats lay at the pier, and nobody was about.\n"
    "Anna counted the gulls on the roof of the old fish market, as she did on every day. "
    "Then the bell rang, and the first of the fishermen came down the hill with his nets."
)


def feed(watch: Watch, pieces: list[str], logprob: float = -0.2) -> list[Verdict]:
    return [watch.feed(piece, [logprob]) for piece in pieces]


def words(text: str) -> list[str]:
    first, *rest = text.split(" ")
    return [first, *(" " + word for word in rest)]


@given(
    st.lists(st.tuples(st.text(max_size=12), st.floats(-8, 0)), max_size=60),
    st.integers(0, 8),
    st.integers(0, 40),
)
def test_what_was_shown_always_stands_and_is_said_once(
    pieces: list[tuple[str, float]], hold: int, longest: int
) -> None:
    watch = Watch(WatchConfig(hold_back_tokens=hold, longest_word_chars=longest))
    shown = ""
    for text, logprob in pieces:
        verdict = watch.feed(text, [logprob])
        shown += verdict.shown
        assert verdict.stands == len(shown)
        assert watch.text.startswith(shown)
        if verdict.doubt is not None:
            return
    shown += watch.end().shown
    assert shown == "".join(text for text, _ in pieces)


def test_a_good_answer_passes_whole() -> None:
    watch = Watch()
    verdicts = [*feed(watch, words(STORY)), watch.end()]
    assert [verdict.doubt for verdict in verdicts] == [None] * len(verdicts)
    assert "".join(verdict.shown for verdict in verdicts) == STORY


def test_the_last_tokens_are_kept_back_and_the_text_ends_with_a_word() -> None:
    watch = Watch(WatchConfig(hold_back_tokens=3))
    pieces = ["The ", "har", "bour ", "was ", "qui", "et"]
    assert [verdict.shown for verdict in feed(watch, pieces)] == [
        "",
        "",
        "",
        "The ",
        "",
        "harbour ",
    ]


def test_without_hold_back_every_whole_word_is_shown_at_once() -> None:
    watch = Watch(WatchConfig(hold_back_tokens=0))
    assert [verdict.shown for verdict in feed(watch, ["It ", "rains ", "he"])] == [
        "It ",
        "rains ",
        "",
    ]
    assert watch.end().shown == "he"


def test_a_word_without_end_is_shown_all_the_same() -> None:
    watch = Watch(WatchConfig(hold_back_tokens=1, longest_word_chars=10))
    shown = "".join(verdict.shown for verdict in feed(watch, ["abcd"] * 6))
    assert len(shown) >= 10


def test_doubt_hands_over_after_the_last_line_or_sentence_that_stands() -> None:
    watch = Watch(WatchConfig(window_tokens=8, hold_back_tokens=40))
    assert all(v.doubt is None for v in feed(watch, words(STORY[:160])))
    verdicts = feed(watch, words(" Purple seven the of under glass maybe eleven"), logprob=-6.0)
    last = next(verdict for verdict in verdicts if verdict.doubt is not None)
    assert last.doubt is Doubt.UNSURE
    assert watch.text[: last.stands] == STORY.split("\n", maxsplit=1)[0] + "\n"


def test_one_unlikely_name_is_no_doubt() -> None:
    watch = Watch(WatchConfig(window_tokens=8))
    feed(watch, words(STORY))
    assert watch.feed(" Xanthippe", [-12.0]).doubt is None


def test_drawn_tokens_may_be_less_likely_than_the_best_ones() -> None:
    likeliest, drawn = Watch(), Watch(sampled=True)
    assert feed(likeliest, words(STORY), logprob=-2.0)[-1].doubt is Doubt.UNSURE
    assert feed(drawn, words(STORY), logprob=-2.0)[-1].doubt is None


def test_an_answer_shorter_than_the_window_is_not_judged() -> None:
    watch = Watch(WatchConfig(window_tokens=8))
    assert all(verdict.doubt is None for verdict in feed(watch, ["ja"] * 7, logprob=-9.0))
    assert watch.feed("ja", [-9.0]).doubt is Doubt.UNSURE


def test_a_log_probability_that_is_no_number_is_a_doubt() -> None:
    watch = Watch(WatchConfig(window_tokens=1))
    assert watch.feed("a", [float("nan")]).doubt is Doubt.UNSURE


def test_a_circle_is_cut_after_its_first_round() -> None:
    watch = Watch()
    line = " I can help you with that and with many other things."
    verdicts = feed(watch, words("Hello there." + line * 8), logprob=-0.01)
    last = next(verdict for verdict in verdicts if verdict.doubt is not None)
    assert last.doubt is Doubt.REPEATS
    assert watch.text[: last.stands].count("many other things") <= 4
    assert watch.text[: last.stands].endswith(" ")


@pytest.mark.parametrize(
    "text",
    [
        "| --- | --- | --- | --- |\n| 1 | 2 | 3 | 4 |\n",
        "=" * 79 + "\n",
        "No, no, no, no, no!",
        "[0, 0, 0, 0, 0, 0, 0, 0]",
        "for i in range(3):\n    print(i)\nfor j in range(3):\n    print(j)\n",
    ],
)
def test_a_ruler_a_table_and_a_chorus_are_no_circles(text: str) -> None:
    assert Repetition().feed(text) is None


@given(st.text(min_size=1, max_size=60), st.text(max_size=40))
def test_whatever_is_repeated_without_end_is_found(unit: str, before: str) -> None:
    found = Repetition().feed(before + unit * 200)
    assert found is not None
    assert found <= len(before) + 2 * len(unit)


def test_broken_json_stands_up_to_what_broke_it() -> None:
    watch = Watch(WatchConfig(hold_back_tokens=8), form=FormCheck())
    pieces = ['{"city": ', '"Paris"', ", ", '"days": ', "three", "}"]
    verdicts = feed(watch, pieces)
    last = next(verdict for verdict in verdicts if verdict.doubt is not None)
    assert last.doubt is Doubt.BROKEN_FORM
    assert watch.text[: last.stands] == '{"city": "Paris", "days": '


def test_json_that_ends_too_early_is_a_doubt_at_its_end() -> None:
    watch = Watch(form=FormCheck())
    feed(watch, ['{"a": [1, 2'])
    assert watch.end().doubt is Doubt.BROKEN_FORM


def test_chinese_is_parted_between_characters() -> None:
    watch = Watch(WatchConfig(hold_back_tokens=2))
    shown = [verdict.shown for verdict in feed(watch, ["今天", "天气", "很好", "我们"])]
    assert "".join(shown) == "今天天气"


def test_after_a_doubt_nothing_more_is_shown() -> None:
    watch = Watch(WatchConfig(window_tokens=2))
    feed(watch, ["a ", "b "], logprob=-9.0)
    after = watch.feed("c ", [-0.1])
    assert (after.shown, after.doubt) == ("", Doubt.UNSURE)
    assert watch.end().shown == ""


@pytest.mark.parametrize(
    "field",
    [
        {"window_tokens": 0},
        {"unsure_logprob": 0.5},
        {"unsure_logprob": float("nan")},
        {"unsure_sampled_logprob": 1.0},
        {"hold_back_tokens": -1},
        {"longest_word_chars": -1},
    ],
)
def test_a_setting_that_makes_no_sense_is_named(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        WatchConfig(**field)  # type: ignore[arg-type]
