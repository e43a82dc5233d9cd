"""What a finished answer says of itself, and the head that rates it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isthmus.core.errors import InvalidRequest
from isthmus.router.doubt import answer_files, answer_head, answer_text
from isthmus.router.doubt.answer_head import Answered, AnswerHead
from isthmus.router.learned.question import parse

QUESTION = """How far does a train go in 3 hours at 40 km/h?
A. 100 km
B. 120 km
C. 140 km
D. 43 km"""
SUM = "What is 6 times 7?\nA. 14\nB. 42\nC. 49\nD. 20"
RIGHT = "Distance is speed times time: 40 * 3 = 120 km. The answer is (B)."
ASTRAY = "Distance is speed times time: 40 * 3 = 120 km. The answer is (D)."


def told(answer: str, question: str = QUESTION, **known: object) -> dict[str, float]:
    values = answer_text.vector(parse(question), answer, **known)  # type: ignore[arg-type]
    return dict(zip(answer_text.NAMES, values.tolist(), strict=True))


def test_every_feature_has_a_name_and_a_finite_value() -> None:
    for question in (QUESTION, "Why is the sky blue?", ""):
        for answer in (RIGHT, "", "The answer is (Z).", "(A) (B) \\boxed{C}", "3 = " * 2000):
            assert np.isfinite(list(told(answer, question).values())).all()


def test_an_answer_whose_last_number_is_the_options_agrees_with_itself() -> None:
    assert told(RIGHT)["chosen_is_last_number"] == 1
    assert told(RIGHT)["other_is_last_number"] == 0
    assert told(ASTRAY)["chosen_is_last_number"] == 0
    assert told(ASTRAY)["other_is_last_number"] == 1
    assert told(RIGHT)["number_gap"] == 0


def test_reasons_that_speak_of_another_option_are_seen() -> None:
    question = "Light waves are\nA. transverse waves\nB. longitudinal waves\nC. standing still"
    reasons = "Polarization shows that light is made of transverse waves. The answer is "
    assert told(reasons + "(A).", question)["lead_own"] > 0
    assert told(reasons + "(B).", question)["lead_own"] < 0
    assert told(reasons + "(A).", question)["chosen_verbatim"] == 1


@pytest.mark.parametrize(
    ("sums", "right", "wrong"),
    [
        ("2 + 2 = 4", 1, 0),
        ("2 + 2 = 5", 0, 1),
        ("12 \\times 3 = 36 and 7 - 9 = -2", 2, 0),
        ("10 / 4 = 2.5, 10 ÷ 3 = 3.33", 2, 0),
        ("1 / 0 = 7", 0, 0),
        ("2 + 3 * 4 = 14", 0, 0),
    ],
)
def test_sums_are_checked(sums: str, right: int, wrong: int) -> None:
    features = told(sums)
    assert features["sums_right"] == pytest.approx(np.log1p(right))
    assert features["sums_wrong"] == pytest.approx(np.log1p(wrong))


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The answer is (C).", "C"),
        ("First I thought the answer is A. No: the correct answer is B", "B"),
        ("so \\boxed{D}", "D"),
        ("A train goes far.", None),
        ("the answer is About 5", None),
    ],
)
def test_the_named_option_is_the_last_one_that_is_called_the_answer(
    answer: str, letter: str | None
) -> None:
    assert answer_text.named_option(answer) == letter


def test_an_option_that_was_not_offered_is_seen() -> None:
    assert told("The answer is (J).")["outside"] == 1
    assert told(RIGHT)["outside"] == 0


def test_what_is_known_of_the_whole_answer_counts_more_than_the_part_at_hand() -> None:
    assert told(RIGHT, chars=5000)["chars"] == pytest.approx(np.log1p(5000))
    assert told(RIGHT, letter="D")["at"] == 3


def rows(count: int = 600) -> list[dict[str, object]]:
    """Questions with a sum; half of the answers go astray, and the cloud always knows."""
    rng = np.random.default_rng(0)
    made = []
    for at in range(count):
        a, b = (int(v) for v in rng.integers(2, 50, 2))
        options = rng.permutation([a * b, a + b + 1, a * b + 7, a + 2 * b]).tolist()
        pick = int(rng.integers(0, 4))
        letters = "\n".join(f"{letter}. {v}" for letter, v in zip("ABCD", options, strict=True))
        made.append(
            {
                "id": f"q{at}",
                "source": "sums",
                "domain": f"d{at % 6}",
                "prompt": f"What is {a} times {b}?\n{letters}",
                "weak_text": f"{a} * {b} = {a * b}. The answer is ({'ABCD'[pick]}).",
                "weak_correct": float(options[pick] == a * b),
                "strong_correct": float(rng.random() < 0.9),
            }
        )
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("answers")
    for name in ("prompts", "answers"):
        text = "".join(json.dumps(row) + "\n" for row in rows())
        (folder / f"{name}.jsonl").write_text(text)
    return folder / "prompts.jsonl", folder / "answers.jsonl"


def test_a_trained_head_tells_answers_that_went_astray(files: tuple[Path, Path]) -> None:
    prompts = answer_files.read_rows(files[0])
    answered = answer_files.join(prompts, files[1])
    assert answer_files.cross_validate(prompts, answered).apgr > 0.58
    head = answer_files.train(prompts, answered)
    right, astray = (Answered(SUM, f"6 * 7 = 42. The answer is ({x}).") for x in "BD")
    edge, cloud = head.rate([right, astray])
    assert edge[0] > 0.7
    assert edge[1] < 0.3
    assert cloud.min() > 0.7

    section = head.section({})
    again = AnswerHead.of(section)
    assert again is not None
    assert again.rate([right])[0] == pytest.approx(edge[:1])

    other = replace(section, says={**section.says, "features": ["new"]})
    with pytest.raises(ValueError, match="other features"):
        AnswerHead.of(other)
    broken = replace(section, arrays={**section.arrays, "left": section.arrays["left"] + 10**6})
    with pytest.raises(ValueError, match="makes no sense"):
        AnswerHead.of(broken)


def test_a_question_without_options_is_not_rated(files: tuple[Path, Path]) -> None:
    prompts = answer_files.read_rows(files[0])[:200]
    head = answer_files.train(prompts, answer_files.join(prompts, files[1]))
    open_question = Answered("Why is the sky blue?", "Because.")
    edge, cloud = head.rate([open_question])
    assert np.isnan([edge, cloud]).all()
    scores = answer_files.score(
        {"a": Answered(QUESTION, RIGHT), "b": open_question, "c": Answered(QUESTION, ASTRAY)}, head
    )
    assert scores["b"] == pytest.approx((scores["a"] + scores["c"]) / 2)


def test_only_answers_to_the_prompts_are_joined(files: tuple[Path, Path]) -> None:
    prompts = answer_files.read_rows(files[0])[:3]
    assert list(answer_files.join(prompts, files[1])) == ["q0", "q1", "q2"]


@pytest.mark.parametrize("text", ["[1]\n", "{\n", "\x00"])
def test_what_is_no_file_of_json_lines_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(InvalidRequest, match=r"x\.jsonl"):
        answer_files.read_rows(tmp_path / "x.jsonl")


def test_an_answer_without_text_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "q0"}\n')
    with pytest.raises(InvalidRequest, match="weak_text"):
        answer_files.join(answer_files.read_rows(files[0]), tmp_path / "bad.jsonl")


def test_labels_that_are_all_alike_teach_nothing(files: tuple[Path, Path]) -> None:
    prompts = [{**row, "strong_correct": 1.0} for row in answer_files.read_rows(files[0])]
    with pytest.raises(InvalidRequest, match="nothing to learn"):
        answer_files.train(prompts, answer_files.join(prompts, files[1]))


def test_features_are_made_row_by_row() -> None:
    both = answer_head.features([Answered(QUESTION, RIGHT), Answered(QUESTION, ASTRAY)])
    assert both.shape == (2, len(answer_text.NAMES))
    assert (both[0] == answer_text.vector(parse(QUESTION), RIGHT)).all()
