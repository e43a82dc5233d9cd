"""A trained file knows the questions that it was trained on, and hardly any other."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.router.learned.question import parse
from isthmus.router.learned.section import Section
from isthmus.router.learned.seen import LEAST_SHARE, SECTION, Seen, read
from isthmus.router.learned.train import key_of

KEYS = np.random.default_rng(0).integers(0, 2**32, 20_000)
TRAINED, OTHERS = KEYS[:10_000], KEYS[10_000:]


def test_every_question_of_the_training_is_known_and_few_others_are() -> None:
    seen = Seen.of(TRAINED)
    assert seen.knows(TRAINED).all()
    assert seen.knows(OTHERS).mean() < LEAST_SHARE / 2


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_training_of_hardly_anything_knows_hardly_anything(count: int) -> None:
    seen = Seen.of(TRAINED[:count])
    assert seen.knows(TRAINED[:count]).all()
    assert seen.knows(OTHERS).mean() < 0.2


def test_it_takes_a_byte_a_question_and_is_read_as_it_was_stored() -> None:
    section = Seen.of(TRAINED).section()
    assert section.arrays["bits"].nbytes == pytest.approx(len(TRAINED), rel=0.01)
    again = read({SECTION: section})
    assert again is not None
    assert again.knows(TRAINED).all()


@pytest.mark.parametrize(
    "arrays", [{}, {"bits": np.zeros(0, np.int8)}, {"bits": np.zeros((2, 2), np.int8)}]
)
def test_a_file_that_does_not_say_what_it_was_trained_on_is_not_asked(
    arrays: dict[str, np.ndarray],
) -> None:
    assert read({}) is None
    assert read({SECTION: Section({}, arrays)}) is None


def test_a_question_is_the_same_one_with_other_options_and_other_marks() -> None:
    one, two = (
        key_of(parse(text))
        for text in ("What is 7 * 8?\nA. 54\nB. 56", "what is 7*8 ?\n(A) 12 (B) 56 (C) 9")
    )
    assert one == two != key_of(parse("What is 7 * 9?\nA. 54\nB. 56"))
