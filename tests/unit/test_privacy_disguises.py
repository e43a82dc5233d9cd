"""Values that are broken over lines, written with odd signs or split: found all the same."""

from __future__ import annotations

import pytest

from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.scan import scan


@pytest.mark.parametrize(
    ("wrapped", "label"),
    [
        ("身份证号110105\n19491231002X", "ID_CN"),
        ("card 4111\n1111\n1111\n1111", "BANK_CARD"),
        ("手机138\n0013\n8000", "PHONE"),
        ("IBAN DE89 3704 0044\n0532 0130 00", "IBAN"),
        ("ship to 456 Elm Ave., Suite 200\nDallas, TX 75201", "ADDRESS"),
    ],
)
def test_a_value_that_a_line_s_end_cuts_is_found_whole(wrapped: str, label: str) -> None:
    (span,) = scan(wrapped, STRUCTURED)
    assert span.label == label
    assert span.end == len(wrapped)
    assert "\n" in wrapped[span.start : span.end]


@pytest.mark.parametrize(
    "unseen", [chr(code) for code in (0, 8, 0x1B, 0x7F, 0x9B, 0x34F, 0x115F, 0x3164, 0xE0041)]
)
def test_no_invisible_character_hides_a_value_or_moves_its_place(unseen: str) -> None:
    value = f"138{unseen}1234{unseen}{unseen}5678"
    text = f"a{unseen}b {value}, 4111{unseen}111111111111"
    found = [(span.label, text[span.start : span.end]) for span in scan(text, STRUCTURED)]
    assert found == [("PHONE", value), ("BANK_CARD", f"4111{unseen}111111111111")]


@pytest.mark.parametrize("between", ["\x01", "\x1f", "\f", "\v", "\u2028"])
def test_a_separator_of_fields_joins_no_two_values(between: str) -> None:
    text = f"13812345678{between}4111111111111111"
    found = [text[span.start : span.end] for span in scan(text, STRUCTURED)]
    assert found == text.split(between)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("BANK_CARD", "4111.1111.1111.1111"),
        ("BANK_CARD", "4111/1111/1111/1111"),
        ("BANK_CARD", "4111_1111_1111_1111"),
        ("BANK_CARD", "3782/822463/10005"),
        ("PHONE", "138/1234/5678"),
        ("PHONE", "138_1234_5678"),
        ("PHONE", "138**1234**5678"),
        ("PHONE", "+86/138/1234/5678"),
        ("PHONE", "415/555/2671"),
        ("PHONE", "1.3.8.1.2.3.4.5.6.7.8"),
        ("PHONE", "1 3 8 1 2 3 4 5 6 7 8"),
        ("PHONE", "1/3/8/1/2/3/4/5/6/7/8"),
    ],
)
@pytest.mark.parametrize("frame", ["see {}, please", "号码{}。", "{}"])
def test_unusual_separators_hide_no_card_and_no_phone(label: str, value: str, frame: str) -> None:
    text = frame.format(value)
    spans = [(span.label, text[span.start : span.end]) for span in scan(text, STRUCTURED)]
    assert spans == [(label, value)]


@pytest.mark.parametrize(
    "benign",
    [
        *("12/31/2024 10/11/2025", "2024/12/31/1234", "build 4111/1112/1113/1114", "v1.3.8.1.2.3"),
        *("IMG_20240101_123456_789", "1/2/3/4/5/6/7/8/9/10", "3*1234*5678", "1234.5678.9012.3456"),
        *("https://example.org/2024/1231/5678", "sizes 128/256/512", "13812345678.00 in total"),
    ],
)
def test_dates_paths_and_products_are_no_disguised_numbers(benign: str) -> None:
    assert not [s for s in scan(benign, STRUCTURED) if s.label in {"PHONE", "BANK_CARD"}]


@pytest.mark.parametrize("column", ["2437\n2445\n2447\n2449", "the lines\n161\n3852\n3853\n"])
def test_a_column_of_numbers_is_neither_card_nor_phone(column: str) -> None:
    assert scan(column, STRUCTURED) == ()


def test_a_phone_that_a_table_made_a_float_of_is_found() -> None:
    text = "call 13812345678.0 now"
    assert [text[s.start : s.end] for s in scan(text, STRUCTURED)] == ["13812345678"]


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("EMAIL", "jane(comment)@x.org"),
        ("EMAIL", "jane@(at work)x.org"),
        ("EMAIL", "jane.doe@\nexample.org"),
        ("EMAIL", "jane.doe@\r\n> example.org"),
        ("EMAIL", "jane[at]example[.]org"),
        ("EMAIL", "jane@example[.]org"),
        ("EMAIL", "jane@mail.example[.]org"),
        ("IP", "10[.]1[.]2[.]3"),
        ("IP", "203.0.113[.]9"),
        ("IP", "203(dot)0(dot)113(dot)9"),
    ],
)
@pytest.mark.parametrize("frame", ["see {}, please", "联系{}。"])
def test_addresses_that_are_broken_or_defanged_are_found(
    label: str, value: str, frame: str
) -> None:
    text = frame.format(value)
    spans = [(span.label, text[span.start : span.end]) for span in scan(text, STRUCTURED)]
    assert spans == [(label, value)]


@pytest.mark.parametrize(
    "benign", ["f(x)@y", "call(a)@decorator", "a @\nmatmul.b(c)", "x[1][2][3]", "1.2.3 (4.5.6)"]
)
def test_calls_and_decorators_are_no_broken_addresses(benign: str) -> None:
    assert not scan(benign, STRUCTURED)
