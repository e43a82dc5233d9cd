"""A user's patterns and word lists: found in any text, refused by name when they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from isthmus.core.errors import ConfigError
from isthmus.privacy.patterns import PatternSettings, UserPatterns
from isthmus.privacy.scanner import Scanner


def patterns(**values: Any) -> UserPatterns:
    return UserPatterns([PatternSettings(name="mine", label="MINE", **values)])


def found(detector: UserPatterns, text: str) -> list[str]:
    return [text[s.start : s.end] for s in Scanner((detector,)).scan(text)]


def test_a_pattern_is_found_beside_chinese_and_in_full_width_forms() -> None:
    detector = patterns(pattern=r"EMP-\d{6}")
    assert found(detector, "工号EMP-123456的同事") == ["EMP-123456"]
    assert found(detector, "工号ＥＭＰ－１２３４５６") == ["ＥＭＰ－１２３４５６"]


def test_a_piece_of_a_longer_number_is_no_match_unless_that_is_wanted() -> None:
    assert found(patterns(pattern=r"\d{6}"), "1234567") == []
    assert found(patterns(pattern=r"\d{6}", whole=False), "1234567") == ["123456"]


def test_words_are_found_in_any_case_and_the_longest_of_those_that_begin_alike() -> None:
    detector = patterns(words=("Blue", "Blue Heron", "青鸟计划"))
    assert found(detector, "the BLUE HERON and 青鸟计划书, blueish") == ["BLUE HERON", "青鸟计划"]


def test_words_are_taken_as_they_are_and_not_as_patterns() -> None:
    assert found(patterns(words=("C++ (x)",)), "C++ (x) or Cxx") == ["C++ (x)"]


def test_a_file_of_words_holds_one_a_line(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("# projects\nBlue Heron\n\n青鸟计划\n", "utf-8")
    detector = UserPatterns([PatternSettings(name="p", label="PROJECT", file=listed)])
    assert found(detector, "青鸟计划: Blue Heron # projects") == ["青鸟计划", "Blue Heron"]
    assert detector.labels == {"PROJECT"}


def test_thousands_of_words_are_one_pattern() -> None:
    words = tuple(f"word{number:05d}x" for number in range(20_000))
    assert found(patterns(words=words), "a word19999x b") == ["word19999x"]


@pytest.mark.parametrize(
    "pattern", ["(", "[a-", r"(?<!\d)x", r"(a)\1", "(?=x)y", "a{1001}", "x*", "", "a|"]
)
def test_a_pattern_that_is_wrong_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match="mine"):
        patterns(pattern=pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+$", r"(\w+\s?)+!"])
def test_a_pattern_that_backtracks_without_end_elsewhere_takes_linear_time_here(
    pattern: str,
) -> None:
    # Exponential in a backtracking engine: 2 to the 20,000 steps, not a matter of timing.
    assert found(patterns(pattern=pattern), "a" * 20_000 + "?") in ([], ["a" * 20_000])


def test_a_file_that_is_missing_is_refused_by_the_patterns_name() -> None:
    with pytest.raises(ConfigError, match="mine"):
        patterns(file=Path("/no/such/file"))


@pytest.mark.parametrize("values", [{}, {"pattern": "a", "words": ("b",)}, {"pattern": 1}])
def test_one_source_is_needed(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        patterns(**values)


@pytest.mark.parametrize("label", ["mine", "M-1", "", "A" * 40])
def test_a_label_is_written_in_capitals(label: str) -> None:
    with pytest.raises(ValidationError):
        PatternSettings(name="x", label=label, pattern="a")


def test_a_name_is_used_once() -> None:
    setting = PatternSettings(name="twice", label="A", pattern="a")
    with pytest.raises(ConfigError, match="twice"):
        UserPatterns([setting, setting])
