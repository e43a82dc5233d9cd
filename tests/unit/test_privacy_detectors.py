"""The detectors find values wherever they stand, and leave ordinary numbers alone."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.privacy.detectors.numbers import luhn
from isthmus.privacy.normalise import normalise
from isthmus.privacy.scan import scan


def found(text: str) -> list[tuple[str, str]]:
    return [(span.label, text[span.start : span.end]) for span in scan(text)]


@pytest.mark.parametrize(
    ("text", "label", "value"),
    [
        (
            "Mail jane.doe+news@mail.example.co.uk, please",
            "EMAIL",
            "jane.doe+news@mail.example.co.uk",
        ),
        ("邮箱是zhang_san@qq.com谢谢", "EMAIL", "zhang_san@qq.com"),
        ("write to 'a@b.org'", "EMAIL", "a@b.org"),
        ("全角ａｂ＠ｃｄ．ｃｏｍ也算", "EMAIL", "ａｂ＠ｃｄ．ｃｏｍ"),
        ("我的手机13812345678请回电", "PHONE", "13812345678"),
        ("手机１３８１２３４５６７８。", "PHONE", "１３８１２３４５６７８"),
        ("电话+86 138 1234 5678", "PHONE", "+86 138 1234 5678"),
        ("打138-1234-5678找我", "PHONE", "138-1234-5678"),
        ("打138–1234–5678找我", "PHONE", "138–1234–5678"),
        ("座机010-87654321转", "PHONE", "010-87654321"),
        ("call +44 7700 921 916 now", "PHONE", "+44 7700 921 916"),
        ("ring (602) 272-9781", "PHONE", "(602) 272-9781"),
        ("541-714-1388", "PHONE", "541-714-1388"),
        ("001-755-329-4431x042", "PHONE", "001-755-329-4431x042"),
        ("Fax: 0490 39 07 81", "PHONE", "0490 39 07 81"),
        ("card 4111 1111 1111 1111.", "BANK_CARD", "4111 1111 1111 1111"),
        ("卡号6212 2622 0000 0000 004", "BANK_CARD", "6212 2622 0000 0000 004"),
        ("银行卡号6226687820119900", "BANK_CARD", "6226687820119900"),
        ("amex 378282246310005", "BANK_CARD", "378282246310005"),
        ("身份证11010519491231002X。", "ID_CN", "11010519491231002X"),
        ("11010519491231002x号", "ID_CN", "11010519491231002x"),
        ("他叫李雷110105 19491231 002X", "ID_CN", "110105 19491231 002X"),
        ("身份证号是110101199003071235", "ID_CN", "110101199003071235"),
        ("身份证号：999999199902301234", "ID_CN", "999999199902301234"),
        ("My SSN: 514-69-0360", "US_SSN", "514-69-0360"),
        ("ssn is 514690360", "US_SSN", "514690360"),
    ],
)
def test_a_value_is_found_with_its_exact_place(text: str, label: str, value: str) -> None:
    assert found(text) == [(label, value)]


@pytest.mark.parametrize(
    "text",
    [
        "It happened on 2024-11-21 at 10:30:45, not 21/11/2023.",
        "20241121 and 2024.11.21 and 2023-2024",
        "call me on 2024-11-21",
        "Python 3.11.4, build 10.0.19045.3693, v1.2.3-4567",
        "It costs $1,299.00, or ¥15000000000, or 18000000000元.",
        "What is 12345 * 678?",
        "Compute 13812345678 * 3 and 12345678 + 87654321.",
        "the integers 7, 42, 1000000 and 123456789012",
        "pi is 3.14159265358979323846",
        "8080, 127.0.0.1 and 0xDEADBEEF",
        "550e8400-e29b-41d4-a716-446655440000",
        "1700000000 1700000000000",
        "ISBN 978-3-16-148410-0",
        "pip install package@1.2.3 and @decorator",
        "1/2 + 3/4 = 5/4",
        "在2024年有12345678人，增长了3.5%",
        "4111 1111 1111 1112",
        "2021 2022 2023 2024",
        "000-12-3456",
        "",
    ],
)
def test_ordinary_numbers_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_failed_checksum_scores_less_than_a_good_one_and_context_raises_it() -> None:
    good, named, bare = (
        scan(text)[0].score
        for text in ("11010519491231002X", "身份证110105194912310021", "110105194912310021")
    )
    assert good > named > bare > 0


def test_values_in_a_row_are_told_apart() -> None:
    text = "13800138000 4111111111111111 11010519491231002X 1101"
    assert [label for label, _ in found(text)] == ["PHONE", "BANK_CARD", "ID_CN"]


@pytest.mark.parametrize(
    ("digits", "valid"),
    [("79927398713", True), ("79927398710", False), ("4111111111111111", True), ("0", True)],
)
def test_luhn_agrees_with_published_examples(digits: str, valid: bool) -> None:
    assert luhn(digits) is valid


CHINESE = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=12)


@given(CHINESE, CHINESE, st.sampled_from(["13812345678", "a@b.org", "4111111111111111"]))
def test_chinese_text_around_a_value_changes_nothing(before: str, after: str, value: str) -> None:
    spans = scan(before + value + after)
    assert [(span.start, span.end) for span in spans] == [(len(before), len(before) + len(value))]


@given(st.text())
def test_spans_are_ordered_apart_and_inside_the_text(text: str) -> None:
    spans = scan(text + " a@b.org " + text)
    assert spans
    assert all(0 <= s.start < s.end <= 2 * len(text) + 9 for s in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


@given(st.text())
def test_normalised_offsets_lead_back_to_the_character_they_came_from(text: str) -> None:
    normal = normalise(text)
    offsets = range(len(text)) if normal.offsets is None else normal.offsets
    assert len(offsets) == len(normal.text)
    assert list(offsets) == sorted(offsets)
    assert all(
        normalise(text[at]).text.count(char) > 0
        for at, char in zip(offsets, normal.text, strict=True)
    )


def test_what_is_invisible_does_not_hide_a_value() -> None:
    text = "138\u200b1234\u200b5678"
    assert found(text) == [("PHONE", text)]


@pytest.mark.parametrize(
    "unit",
    [
        "@",
        "a@",
        "a@a.",
        "@" + "a" * 61,
        "1",
        "1 ",
        "1-",
        "+1",
        "(1) ",
        "1234 ",
        "tel: 1 ",
        "138 ",
        "ﷺ",
    ],
)
def test_a_hostile_megabyte_takes_linear_time(unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    started = time.perf_counter()
    scan(text)
    # A quadratic pattern would take hours; the bound only leaves room for a busy machine.
    assert time.perf_counter() - started < 20
