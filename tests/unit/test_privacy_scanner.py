"""The scanner: long texts as short ones, overlaps, time-outs, and what it cannot see."""

from __future__ import annotations

import random
import string
import threading
import time
from collections.abc import Iterator

import pytest

from isthmus.privacy import scanner as scanner_module
from isthmus.privacy.base import Span
from isthmus.privacy.scanner import (
    AFTER_CHARS,
    BEFORE_CHARS,
    Blind,
    Scanner,
    ScanStopped,
    resolve,
    scans_stop_when,
)

CHUNK = 400
BEFORE, AFTER = 40, 120


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner_module, "CHUNK_CHARS", CHUNK)
    monkeypatch.setattr(scanner_module, "BEFORE_CHARS", BEFORE)
    monkeypatch.setattr(scanner_module, "AFTER_CHARS", AFTER)


VALUE = "jane.doe@example.org"


@pytest.mark.usefixtures("short_chunks")
def test_a_value_is_found_once_wherever_a_long_text_is_cut() -> None:
    scanner = Scanner()
    for at in range(0, 3 * CHUNK, 7):
        text = "。" * at + VALUE + " word" * 300
        assert scanner.scan(text) == (Span(at, at + len(VALUE), "EMAIL", 0.99),)


@pytest.mark.usefixtures("short_chunks")
def test_a_long_texts_spans_are_in_its_own_offsets_though_signs_change_length() -> None:
    text = "ﬁ１３㍿" * 200 + " " + VALUE + " " + "ﬁ" * 500
    spans = [s for s in Scanner().scan(text) if s.label == "EMAIL"]
    assert [text[s.start : s.end] for s in spans] == [VALUE]


@pytest.mark.usefixtures("short_chunks")
def test_the_context_before_a_value_is_read_over_a_cut() -> None:
    step = CHUNK - BEFORE - AFTER
    for shift in range(-12, 13):
        text = "x " * ((step + shift) // 2) + "my password is hunter2 " + "y " * 300
        assert "hunter2" in [text[s.start : s.end] for s in Scanner().scan(text)]


def spans_of(*ends: tuple[int, int, str, float]) -> list[Span]:
    return [Span(*values) for values in ends]


def test_the_surer_of_two_that_overlap_is_kept() -> None:
    assert resolve(spans_of((0, 5, "A", 0.5), (1, 5, "B", 0.9)), 9) == (Span(1, 5, "B", 0.9),)


def test_an_organisations_name_hides_no_secret() -> None:
    spans = spans_of((0, 5, "SECRET", 0.5), (0, 6, "ORG", 0.9))
    assert resolve(spans, 9) == (Span(0, 5, "SECRET", 0.5),)


def test_of_two_as_sure_the_longer_is_kept() -> None:
    assert resolve(spans_of((1, 4, "A", 0.5), (0, 5, "B", 0.5)), 9) == (Span(0, 5, "B", 0.5),)


def test_what_a_winner_leaves_of_a_loser_stays_covered_where_it_is_most_of_it() -> None:
    kept = resolve(spans_of((0, 8, "A", 0.5), (6, 10, "B", 0.9)), 12)
    assert kept == (Span(0, 6, "A", 0.5), Span(6, 10, "B", 0.9))
    assert resolve(spans_of((0, 4, "A", 0.5), (1, 10, "B", 0.9)), 12) == (Span(1, 10, "B", 0.9),)


class Slow:
    name = "slow"
    labels = frozenset({"SLOW"})

    def detect(self, text: str) -> Iterator[Span]:
        time.sleep(0.01)
        return iter(())


class Counting:
    """Notes the thread's turns: others run between two chunks."""

    name = "counting"
    labels = frozenset({"NONE"})

    def __init__(self) -> None:
        self.chunks = 0

    def detect(self, text: str) -> Iterator[Span]:
        self.chunks += 1
        return iter(())


@pytest.mark.usefixtures("short_chunks")
def test_a_scan_that_is_stopped_in_a_text_is_an_error_and_not_a_clean_text() -> None:
    counting = Counting()
    with scans_stop_when(lambda: counting.chunks == 3), pytest.raises(ScanStopped):
        Scanner((counting,)).scan("a" * 20 * CHUNK)
    assert counting.chunks == 3
    Scanner((counting,)).scan("a" * 20 * CHUNK)  # the next one is another scan
    assert counting.chunks > 20


@pytest.mark.usefixtures("short_chunks")
def test_a_long_text_is_read_in_chunks() -> None:
    counting = Counting()
    Scanner((counting,)).scan("a" * 10 * CHUNK)
    assert counting.chunks > 10


def test_threads_share_a_scanner() -> None:
    scanner = Scanner()
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(len(scanner.scan(f"a {VALUE} b " * 50))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [50] * 4


def test_blindness_concerns_only_texts_of_its_language() -> None:
    scanner = Scanner(
        blind=(Blind(frozenset({"PERSON"}), "zh", "c"), Blind(frozenset({"ORG"}), "en", "c"))
    )
    assert scanner.blind_to("张伟来了") == {"PERSON"}
    assert scanner.blind_to("John came") == {"ORG"}
    assert scanner.blind_to("12345") == frozenset()
    assert scanner.blind_to("John 来了") == {"PERSON", "ORG"}


def test_the_labels_are_those_of_all_detectors() -> None:
    assert Scanner((Slow(), Counting())).labels == {"SLOW", "NONE"}


@pytest.mark.parametrize("key_chars", [1_600, 7_000, 7_300, 9_000, 12_000, 16_000])
@pytest.mark.parametrize("shift", [-16_100, -9_100, -7_300, -7_200, -1_100, -900, -30, -1, 0, 40])
def test_a_private_key_is_covered_whole_wherever_a_long_text_is_cut(
    key_chars: int, shift: int
) -> None:
    made = random.Random(key_chars)
    lines = ("".join(made.choices(string.ascii_letters, k=64)) for _ in range(key_chars // 65))
    kind = "PRIVATE " + "KEY-----"
    key = f"-----BEGIN {kind}\n" + "\n".join(lines) + f"\n-----END {kind}"
    at = scanner_module.CHUNK_CHARS - BEFORE_CHARS - AFTER_CHARS + shift
    text = ("a b. " * at)[:at] + key + " and so on." * 5_000
    covered = bytearray(len(text))
    for span in Scanner().scan(text):
        covered[span.start : span.end] = b"\1" * (span.end - span.start)
    assert 0 not in covered[at : at + len(key)]
    assert sum(covered) == len(key)
