"""What holds for every detector: exact places in any text, scores, linear time, figures on data."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.privacy.base import Label
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.detectors.checks import luhn, verhoeff
from isthmus.privacy.normalise import normalise
from isthmus.privacy.scan import scan


def found(text: str) -> list[tuple[str, str]]:
    return [(span.label, text[span.start : span.end]) for span in scan(text, STRUCTURED)]


NAMES = frozenset({Label.PERSON, Label.LOCATION, Label.ORG})


def test_together_they_see_every_structured_label() -> None:
    seen = frozenset[str]().union(*(detector.labels for detector in STRUCTURED))
    assert seen == frozenset(Label) - NAMES


def test_a_failed_checksum_scores_less_than_a_good_one_and_context_raises_it() -> None:
    good, named, bare = (
        scan(text, STRUCTURED)[0].score
        for text in ("11010519491231002X", "身份证110105194912310021", "110105194912310021")
    )
    assert good > named > bare > 0


def test_values_in_a_row_are_told_apart() -> None:
    text = "13800138000 4111111111111111 11010519491231002X 1101"
    assert [label for label, _ in found(text)] == ["PHONE", "BANK_CARD", "ID_CN"]


def test_each_value_of_a_sentence_goes_by_the_word_before_it() -> None:
    text = "passport 123456789, SSN 514690360, account number 12345678, call 12345678"
    assert [label for label, _ in found(text)] == ["PASSPORT", "US_SSN", "ACCOUNT", "PHONE"]


def test_what_is_invisible_does_not_hide_a_value() -> None:
    text = "138\u200b1234\u200b5678"
    assert found(text) == [("PHONE", text)]


@pytest.mark.parametrize(
    ("digits", "valid"),
    [("79927398713", True), ("79927398710", False), ("4111111111111111", True), ("0", True)],
)
def test_luhn_agrees_with_published_examples(digits: str, valid: bool) -> None:
    assert luhn(digits) is valid


@pytest.mark.parametrize(("digits", "valid"), [("2363", True), ("2364", False), ("123451", True)])
def test_verhoeff_agrees_with_published_examples(digits: str, valid: bool) -> None:
    assert verhoeff(digits) is valid


CHINESE = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=12)


AMOUNT = tuple("元块円万亿人个名件吨")


@given(
    CHINESE,
    CHINESE.filter(lambda text: not text.startswith(AMOUNT)),
    st.sampled_from(["13812345678", "a@b.org", "4111111111111111"]),
)
def test_chinese_text_around_a_value_changes_nothing(before: str, after: str, value: str) -> None:
    spans = scan(before + value + after, STRUCTURED)
    assert [(span.start, span.end) for span in spans] == [(len(before), len(before) + len(value))]


FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
VALUES = {
    "手机号": ("138", "1234", "5678"),
    "card number ": ("4111", "1111", "1111", "1111"),
    "身份证号": ("110105", "19491231", "0021"),
    "银行卡号：": ("6228", "4857", "1527", "2643"),
    "my SSN is ": ("514", "69", "0360"),
}
PROSE = st.text(
    st.characters(exclude_categories=["Nd", "Nl", "No", "L", "Sm", "Sc", "Cs"]), max_size=40
)


@given(
    before=PROSE,
    after=PROSE,
    name=st.sampled_from(sorted(VALUES)),
    gap=st.sampled_from(["", " ", "-", "\u2013", "\u00a0", "\u3000", "－", " - "]),
    wide=st.booleans(),
    hidden=st.sampled_from(["", "\u200b", "\u2060"]),
)
def test_a_value_is_found_in_its_place_in_any_spacing_and_any_text(
    before: str, after: str, name: str, gap: str, wide: bool, hidden: str
) -> None:
    digits = [group.translate(FULL_WIDTH) if wide else group for group in VALUES[name]]
    value = (gap + hidden).join(digits)
    # A comma keeps the text around from going on the number: "5678-" or "(".
    text = f"{before}，{name}{value}，{after}"
    start = len(before) + 1 + len(name)
    assert (start, start + len(value)) in [(s.start, s.end) for s in scan(text, STRUCTURED)]


@given(st.text())
def test_spans_are_ordered_apart_and_inside_the_text(text: str) -> None:
    spans = scan(text + " a@b.org " + text, STRUCTURED)
    assert spans
    assert all(0 <= s.start < s.end <= 2 * len(text) + 9 for s in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


WORDS = """
    1 12 123 1234 4111 A AB St Street Apt Flat rue No. PO Box APO AE @ a@b. .com (at) dot + ( ) - .
    : :: / # , ， 。 路 号 室 栋 市 区 省 北京 地址： 军字第 京 微信 电话 身份证 card iban GB29 id
    passport plate one two double 一 三 ① １ İ ß ﬁ
"""
PIECES = st.sampled_from([*WORDS.split(), "\n", "\u200b"])


@given(st.lists(st.one_of(PIECES, st.just(" "), st.text(max_size=3)), max_size=60))
def test_no_text_makes_a_detector_fail_or_leave_the_text(pieces: list[str]) -> None:
    text = normalise("".join(pieces)).text
    for detector in STRUCTURED:
        for span in detector.detect(text):
            assert 0 <= span.start < span.end <= len(text)
            assert span.label in detector.labels
            assert 0 < span.score <= 1


@pytest.mark.parametrize(
    "unit",
    [
        *("@", "a@", "a@a.", "@" + "a" * 61, "a dot ", "a.", "(at)", "点"),
        *("1", "1 ", "1-", "+1", "(1) ", "12 ", "138 ", "1234 ", "tel: 1 ", "1\n", "one "),
        *("A1 ", "AB12 ", "A1-", "DE89 ", "DE89370400", "passport A1 ", "京A1", "军字第"),
        *("1.", "1:", "a:", "AA:", "AA-", "::", "微信", "user ", "twitter is "),
        *(
            "12 Main ",
            "12 Main St, ",
            "Apt 1, ",
            "No. 1 ",
            "A, ",
            "A\n",
            "corner of ",
            "rue a ",
            "12 Rose ",
        ),
        *("key=", "password=a1b2", "token: "),
        *(
            "路",
            "路1号",
            "1号",
            "1栋",
            "省市区",
            "北京",
            "地址：",
            "家园",
            "一",
            "ﷺ",
            "а",
            "\u200b",
        ),
    ],
)
def test_a_hostile_text_takes_linear_time(unit: str) -> None:
    text = normalise((unit * (100_000 // len(unit) + 1))[:100_000]).text
    started = time.perf_counter()
    for detector in STRUCTURED:
        for _ in detector.detect(text):
            pass
    # A quadratic pattern would take many minutes; the bound leaves room for a busy machine.
    assert time.perf_counter() - started < 20


SHARED = Path(__file__).parents[3] / "shared" / "data" / "pii_dev.jsonl.gz"
FEWEST = 10
"""Labels with fewer values in a language say nothing about a rate."""


@pytest.mark.skipif(not SHARED.exists(), reason="the labelled texts are not here")
def test_the_labelled_texts_values_are_found_and_the_benign_texts_are_not() -> None:
    with gzip.open(SHARED, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    labels = frozenset(Label) - NAMES - {Label.SECRET, Label.MEDICAL}  # have tests of their own
    total: Counter[tuple[str, str]] = Counter()
    covered: Counter[tuple[str, str]] = Counter()
    alarms = benign = 0
    for row in rows:
        spans = scan(row["text"], STRUCTURED)
        if row["kind"] != "pii":
            benign += 1
            alarms += any(span.label in labels & {*row["scope"]} for span in spans)
        for gold in row["spans"]:
            if gold["label"] in labels:
                key = gold["label"], row["lang"]
                total[key] += 1
                covered[key] += any(
                    min(s.end, gold["end"]) - max(s.start, gold["start"])
                    >= (gold["end"] - gold["start"]) / 2
                    for s in spans
                    if s.label == gold["label"]
                )
    recall = {key: covered[key] / count for key, count in total.items() if count >= FEWEST}
    assert {key: value for key, value in recall.items() if value < 0.95} == {}
    assert len(recall) > 10
    assert alarms / benign < 0.01
