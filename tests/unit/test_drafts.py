"""Judging a draft: what stands, where it is parted, and when a device offers one at all."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cloud.backends.openai_draft import read_judged
from isthmus.cloud.draft_gain import DraftGain as GatewayGain
from isthmus.cloud.drafts import LEAST_LOGPROB, JudgedToken, ends_of, judged
from isthmus.core.events import DraftVerdict
from isthmus.edge.drafts import DraftGain

GOOD, BAD = LEAST_LOGPROB, LEAST_LOGPROB - 0.01


def tokens(draft: str, *logprobs: float, at: str = r"\s*[^\s]+|\s+") -> list[JudgedToken]:
    """A token a word, with the spaces before it."""
    ends = [word.end() for word in re.finditer(at, draft)]
    return [JudgedToken(end, lp) for end, lp in zip(ends, logprobs, strict=True)]


def stands(draft: str, told: list[JudgedToken], most: int | None = None) -> str:
    verdict = judged(draft, told, most_tokens=most)
    return draft.encode()[: verdict.accepted_bytes].decode()


def test_a_draft_stands_up_to_its_first_bad_token() -> None:
    draft = " in the year nineteen"
    assert stands(draft, tokens(draft, GOOD, GOOD, BAD, GOOD)) == " in the"
    assert judged(draft, tokens(draft, GOOD, GOOD, BAD, GOOD)) == DraftVerdict(True, 7, 2, 4)


def test_a_draft_that_is_good_to_its_end_stands_whole_even_in_the_middle_of_a_word() -> None:
    draft = " in the yea"
    assert stands(draft, tokens(draft, GOOD, GOOD, GOOD)) == draft


def test_nothing_stands_of_a_draft_that_begins_badly() -> None:
    draft = " in the year"
    assert judged(draft, tokens(draft, BAD, GOOD, GOOD)) == DraftVerdict(True, 0, 0, 3)


def test_a_token_that_the_model_would_have_written_is_good_however_unlikely() -> None:
    assert JudgedToken(3, -9.0, best=True).good
    assert not JudgedToken(3, -9.0).good
    assert not JudgedToken(3, math.nan).good


def test_a_draft_is_not_parted_in_the_middle_of_a_word() -> None:
    draft = "go southwestward"
    told = [JudgedToken(2, GOOD), JudgedToken(8, GOOD), JudgedToken(12, GOOD), JudgedToken(16, BAD)]
    assert stands(draft, told) == "go"


def test_a_draft_is_not_parted_behind_a_space() -> None:
    draft = "go \nsouth"
    told = [JudgedToken(2, GOOD), JudgedToken(4, GOOD), JudgedToken(9, BAD)]
    assert stands(draft, told) == "go"


def test_chinese_is_parted_behind_any_character() -> None:
    draft = "北京是首都"
    told = [JudgedToken(2, GOOD), JudgedToken(3, GOOD), JudgedToken(5, BAD)]
    assert stands(draft, told) == "北京是"


def test_a_draft_is_not_parted_inside_of_a_character() -> None:
    draft = "é😀!"
    told = [JudgedToken(1, GOOD), JudgedToken(1, GOOD), JudgedToken(2, BAD), JudgedToken(3, GOOD)]
    assert stands(draft, told) == "é"


def test_no_more_stands_than_may_be_written() -> None:
    draft = " in the year"
    assert stands(draft, tokens(draft, GOOD, GOOD, GOOD), most=2) == " in the"
    assert stands(draft, tokens(draft, GOOD, GOOD, GOOD), most=0) == ""


@given(st.text("a é中😀\n'", max_size=20), st.lists(st.booleans(), max_size=60), st.data())
def test_what_stands_is_a_beginning_of_the_draft_before_any_bad_token(
    draft: str, good: list[bool], data: st.DataObject
) -> None:
    raw = draft.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]
    ends = ends_of(pieces, draft)
    if not draft:
        assert ends is None
        return
    assert ends is not None
    assert ends[-1] == len(draft)
    told = [JudgedToken(end, GOOD if ok else BAD) for end, ok in zip(ends, good, strict=False)]
    told += [JudgedToken(end, BAD) for end in ends[len(told) :]]
    text = stands(draft, told)
    assert draft.startswith(text)
    first_bad = next((t.end for t in told if not t.good), len(draft))
    assert len(text) <= first_bad


def test_a_draft_is_found_behind_a_token_that_began_before_it() -> None:
    assert ends_of([b"so", b" far. The", b" end"], "The end") == [3, 7]
    assert ends_of([b"other", b" text"], "The end") is None


def told_by_vllm(*rows: tuple[str, float, int]) -> bytes:
    import json

    shown = [{"7": {"decoded_token": t, "logprob": lp, "rank": rank}} for t, lp, rank in rows]
    return json.dumps({"choices": [], "prompt_logprobs": [None, *shown]}).encode()


def test_what_a_vllm_server_tells_of_a_prompt_is_read() -> None:
    body = told_by_vllm(("user", -5.0, 9), (" in", -0.1, 1), (" the", -3.0, 4))
    assert read_judged(body, " in the") == [JudgedToken(3, -0.1, True), JudgedToken(7, -3.0, False)]


def test_spaces_that_a_template_cut_from_the_end_do_not_matter() -> None:
    body = told_by_vllm(("user", -5.0, 9), (" in", -0.1, 1))
    assert read_judged(body, " in \n") == [JudgedToken(3, -0.1, True)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"prompt_logprobs": null}',
        b'{"prompt_logprobs": [null, {}]}',
        b'{"prompt_logprobs": [null, 3]}',
        told_by_vllm(("other", -1.0, 1)),
        told_by_vllm(("\ufffd", -1.0, 1), ("\ufffd", -1.0, 1)),
    ],
)
def test_what_is_not_told_is_not_guessed(body: bytes) -> None:
    assert read_judged(body, "é!") is None


# --- whether it pays ------------------------------------------------------------------------------

DRAFT = " the quick brown fox jumps over the lazy dog"
ACCEPTED, REFUSED = DraftVerdict(True, 20, 8, 10), DraftVerdict(True, 0, 0, 10)


def test_a_draft_is_offered_until_something_shows_that_it_does_not_pay() -> None:
    gain = DraftGain()
    assert gain.pays(DRAFT)
    assert not gain.pays(" the")


def test_drafts_that_cost_more_than_they_save_stay_but_for_a_probe() -> None:
    gain = DraftGain()
    for _ in range(20):
        gain.observe(None, 100.0, 10.0)
        gain.observe(REFUSED, 200.0, 10.0)
    offered = [gain.pays(DRAFT) for _ in range(32)]
    assert sum(offered) == 2


def test_drafts_that_stand_are_offered_when_their_tokens_take_longer_than_judging() -> None:
    gain = DraftGain()
    for _ in range(20):
        gain.observe(None, 100.0, 10.0)
        gain.observe(ACCEPTED, 120.0, 10.0)
    assert gain.acceptance == pytest.approx(0.8, abs=0.05)
    assert gain.judging_ms == pytest.approx(20.0)
    assert gain.pays(DRAFT)


def test_a_draft_that_was_not_judged_teaches_nothing_of_those_that_are() -> None:
    gain = DraftGain()
    gain.observe(DraftVerdict(judged=False), 500.0, None)
    assert gain.acceptance == DraftGain().acceptance
    assert gain.judging_ms is None
    assert gain.pays(DRAFT)


def test_drafts_stay_where_a_gateway_judges_none_until_one_is_judged_again() -> None:
    gain = DraftGain()
    for _ in range(3):
        gain.observe(DraftVerdict(judged=False), 100.0, 10.0)
    assert sum(gain.pays(DRAFT) for _ in range(32)) == 2
    gain.observe(ACCEPTED, 110.0, 10.0)
    assert gain.pays(DRAFT)


# --- whether it pays the gateway ------------------------------------------------------------------


def taught(judged_s: float, plain_s: float, token_s: float, verdict: DraftVerdict) -> GatewayGain:
    gain = GatewayGain()
    for _ in range(20):
        gain.observe(verdict, DRAFT, judged_s, token_s)
        gain.observe(DraftVerdict(judged=False), DRAFT, plain_s, token_s)
    return gain


def test_a_gateway_judges_drafts_and_leaves_some_for_comparison_until_it_knows() -> None:
    gain = GatewayGain()
    assert gain.wants(DRAFT)
    assert sum(gain.wants(DRAFT) for _ in range(16)) == 12
    assert gain.judging_s is None


@pytest.mark.parametrize(
    ("judged_s", "token_s", "verdict", "wanted"),
    [
        (0.12, 0.02, ACCEPTED, 30),  # 20 ms for 8 tokens of 20 ms
        (0.12, 0.002, ACCEPTED, 2),  # of 2 ms
        (0.12, 0.02, REFUSED, 2),
        (0.10, 0.02, REFUSED, 2),  # nothing is saved, so nothing is worth a try
        (0.50, 0.02, ACCEPTED, 2),
        (0.05, 0.002, ACCEPTED, 30),  # the judged prefix makes the answer begin sooner
    ],
)
def test_a_gateway_judges_where_the_tokens_that_stand_take_longer_than_judging(
    judged_s: float, token_s: float, verdict: DraftVerdict, wanted: int
) -> None:
    gain = taught(judged_s, 0.1, token_s, verdict)
    assert gain.judging_s == pytest.approx(judged_s - 0.1)
    assert sum(gain.wants(DRAFT) for _ in range(32)) == wanted


def test_a_gateway_finds_out_when_judging_pays_again() -> None:
    gain = taught(0.5, 0.1, 0.02, ACCEPTED)
    for _ in range(300):
        verdict = ACCEPTED if gain.wants(DRAFT) else DraftVerdict(judged=False)
        gain.observe(verdict, DRAFT, 0.1, 0.02)
    assert sum(gain.wants(DRAFT) for _ in range(32)) == 30
