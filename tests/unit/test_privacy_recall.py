"""What is remembered of texts that were read: bounded, whatever was found in them."""

from __future__ import annotations

from isthmus.privacy.base import Span
from isthmus.privacy.recall import Recall


class Finds:
    """A scanner that finds a span in each character."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def find(self, text: str) -> tuple[Span, ...]:
        self.read.append(text)
        return tuple(Span(at, at + 1, "A", 1.0) for at in range(len(text)))

    def blind_to(self, text: str) -> frozenset[str]:
        return frozenset()


def test_a_text_is_read_once() -> None:
    scanner = Finds()
    recall = Recall(scanner)
    assert recall.find("abc") == recall.find("abc")
    recall.blind_to("abc")
    assert scanner.read == ["abc"]


def test_texts_with_many_spans_push_out_the_oldest() -> None:
    scanner = Finds()
    recall = Recall(scanner, span_capacity=10)
    for text in ("abcd", "efgh", "ijkl", "efgh", "abcd"):
        recall.find(text)
    assert scanner.read == ["abcd", "efgh", "ijkl", "abcd"]


def test_a_text_with_more_spans_than_are_kept_is_still_read() -> None:
    recall = Recall(Finds(), span_capacity=2)
    assert len(recall.find("abcdef")) == 6
    assert len(recall.find("abcdef")) == 6
