"""The graders: what counts as right, and what does not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.errors import InvalidRequest
from isthmus.router.labels.grading import Gold, Grader, chosen, contains, final_number, is_settled


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("B", "B"),
        (" b. ", "B"),
        ("Ｂ", "B"),
        ("(D", "D"),
        ("**B**", "B"),
        ("The answer is (B).", "B"),
        ("The correct answer is: **D. grocery store**", "D"),
        ("answer is option b", "B"),
        ("The best answer would be D", "D"),
        ("Answer: B", "B"),
        ("B) because the others are wrong", "B"),
        ("A because it floats", "A"),
        ("A. An old man", "A"),
        ("B - clothes", "B"),
        ("C：because", "C"),
        ("答案是B", "B"),
        ("答案：C。", "C"),
        ("我选B", "B"),
        ("选项D是正确的", "D"),
        (r"So \boxed{E}", "E"),
        ("B is correct, since A is wrong", "B"),
        ("First answer: B. Wait, the answer is C", "C"),
        ("A good choice is C", "C"),
        ("It is D", "D"),
    ],
)
def test_an_answer_is_read_as_the_option_it_commits_to(answer: str, label: str) -> None:
    assert chosen(answer, "ABCDE") == label


@pytest.mark.parametrize(
    "answer",
    ["", "F", "A dog barks", "The answer is A friend", "D and E", "The answer is A or B", "Bacon"],
)
def test_an_answer_that_commits_to_nothing_is_read_as_nothing(answer: str) -> None:
    assert chosen(answer, "ABCDE") is None


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("#### 1,234.50", "1234.5"),
        ("####\n42", "42"),
        ("#### $1,035.00", "1035"),
        ("#### 5 apples\nSo 3 are left", "5"),
        (r"\boxed{\frac{3}{4}}", "3/4"),
        (r"\$1{,}035", "1035"),
        ("it costs $5", "5"),
        ("-5", "-5"),
        ("$-5", "-5"),
        ("-$5", "-5"),
        ("−5", "-5"),
        ("x = -3", "-3"),
        ("5-3", "3"),
        ("(5)-3", "3"),
        ("3/4", "3/4"),
        ("1 1/2 cups", "3/2"),
        ("½", "1/2"),
        ("1½", "3/2"),
        ("50%", "50"),
        ("3,5", "7/2"),
        ("2, 3", "3"),
        ("1,234", "1234"),
        ("1\u202f234\u202f567", "1234567"),
        ("in 20 100", "100"),
        ("1.2e3", "1200"),
        ("1.2×10^3", "1200"),
        ("2 x 3", "3"),
        ("12.", "12"),
        (".5", "1/2"),
        ("１２３", "123"),
        ("٣٤", "34"),
        ("the answer is 12 because of 5", "12"),
        ("10. The answer is 8.", "8"),
        ("答案是 7，因为有 3 个", "7"),
        ("the answer is 3+4=7", "7"),
        ("The total is 40, then 36", "36"),
    ],
)
def test_the_final_number_of_an_answer_is_read(answer: str, number: str) -> None:
    assert final_number(answer) == Fraction(number)


@pytest.mark.parametrize("answer", ["", "none", "1/0", "####"])
def test_what_has_no_number_has_none(answer: str) -> None:
    assert final_number(answer) is None


def test_a_number_is_right_whatever_its_form() -> None:
    gold = Gold(Grader.NUMBER, ("1234.5",))
    assert gold.grade("#### $1,234.50")
    assert not gold.grade("#### 1,234.51")
    assert not gold.grade("no idea")
    assert Gold(Grader.NUMBER, ("0.333333333",)).grade("1/3")


@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_is_read_with_and_without_separators(number: int) -> None:
    assert final_number(f"#### {number:,}") == number
    assert final_number(f"it is {number}") == number


@given(st.text(max_size=60))
def test_any_text_can_be_graded(text: str) -> None:
    chosen(text, "ABCD")
    final_number(text)
    contains(text, "x")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("It was released in 1979.", "1979"),
        ("The Death in Paradise, I think", "death in paradise"),
        ("Beyoncé", "Beyonce"),
        ("rock 'n' roll", "Rock n Roll"),
        ("about 3,000 animals", "3000"),
        ("他住在北京。", "北京"),
        ("**Oslo**", "oslo"),
    ],
)
def test_an_answer_contains_the_gold_words(answer: str, gold: str) -> None:
    assert contains(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("19790", "1979"),
        ("catalogue", "cat"),
        ("paradise in death", "death in paradise"),
        ("", "x"),
    ],
)
def test_a_part_of_a_word_or_another_order_does_not_count(answer: str, gold: str) -> None:
    assert not contains(answer, gold)


def test_any_of_several_gold_answers_will_do() -> None:
    gold = Gold(Grader.CONTAINS, ("New York", "NYC"))
    assert gold.grade("It is NYC.")
    assert not gold.grade("It is Boston.")


@pytest.mark.parametrize(
    ("rubric", "good", "bad"),
    [
        ({"all_of": ["yes"], "none_of": ["no"]}, "Yes, it is.", "yes and no"),
        ({"any_of": ["bye", "farewell"]}, "Bye, Anna", "Hello, Anna"),
        ({"max_words": 3}, "one two three", "one two three four"),
        ({"min_words": 2}, "one two", "one"),
        ({"matches": "^RED CAR$"}, "RED CAR", "red car"),
        ({"json": True}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ],
)
def test_every_rule_of_a_rubric_must_hold(rubric: dict[str, object], good: str, bad: str) -> None:
    gold = Gold(Grader.RUBRIC, rubric=rubric)
    assert gold.grade(good)
    assert not gold.grade(bad)


@pytest.mark.parametrize(
    ("grader", "answers", "labels", "rubric", "field"),
    [
        (Grader.CHOICE, (), ("A", "B"), {}, "answer"),
        (Grader.CHOICE, ("C",), ("A", "B"), {}, "answer"),
        (Grader.NUMBER, ("twelve",), (), {}, "answer"),
        (Grader.CONTAINS, ("...",), (), {}, "answer"),
        (Grader.RUBRIC, (), (), {}, "rubric"),
        (Grader.RUBRIC, (), (), {"words": 3}, "rubric"),
        (Grader.RUBRIC, (), (), {"all_of": "yes"}, "rubric"),
        (Grader.RUBRIC, (), (), {"all_of": []}, "rubric"),
        (Grader.RUBRIC, (), (), {"max_words": True}, "rubric"),
        (Grader.RUBRIC, (), (), {"matches": "("}, "rubric"),
        (Grader.RUBRIC, (), (), {"json": 1}, "rubric"),
    ],
)
def test_gold_that_cannot_be_graded_against_is_refused(
    grader: Grader, answers: tuple[str, ...], labels: tuple[str, ...], rubric: dict[str, object],
    field: str,
) -> None:  # fmt: skip
    with pytest.raises(InvalidRequest) as caught:
        Gold(grader, answers, labels, rubric)
    assert caught.value.field == field


def test_a_number_question_is_settled_once_the_line_of_its_final_number_ends() -> None:
    assert not is_settled("so 3 + 4 = 7\n")
    assert not is_settled("#### 7")
    assert is_settled("#### 7\n")
    assert is_settled("\\boxed{7}.\n")
