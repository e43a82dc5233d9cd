"""Text that goes round in circles, found as it is written.

A small model that has lost its thread repeats a line, a phrase or a character for ever. The end of
the text has period p when every character equals the one p before it. For all periods at once the
length of that stretch is kept, at one vector operation a character (about 2 µs).
"""

from __future__ import annotations

from typing import Final

import numpy as np

LONGEST_PERIOD: Final = 320
"""Characters: some lines of text. Longer circles are not seen."""
_COPIES: Final = 4
_LEAST_CHARS: Final = 120
"""A circle is one that has been gone round `_COPIES` times, and for so many characters. Rulers,
tables and a chorus repeat as well: few of them for so long."""


class Repetition:
    """Watches one text. `feed` it in order."""

    def __init__(self) -> None:
        self._tail = np.zeros(LONGEST_PERIOD, np.uint32)
        """The last characters, the newest first; 0: none."""
        self._runs = np.zeros(LONGEST_PERIOD, np.int32)
        """For period p + 1: how many characters in a row equal the one p + 1 before."""
        periods = np.arange(1, LONGEST_PERIOD + 1)
        self._enough = np.maximum((_COPIES - 1) * periods, _LEAST_CHARS - periods)
        self._length = 0

    def feed(self, text: str) -> int | None:
        """Take a piece; where in the whole text the first copy of a circle ends, once there is one.

        What comes before that is said once and stands.
        """
        for character in text:
            code = ord(character)
            same = self._tail == code
            self._runs += 1
            self._runs *= same
            self._tail[1:] = self._tail[:-1]
            self._tail[0] = code
            self._length += 1
            if (self._runs >= self._enough).any():
                period = int(np.argmax(self._runs >= self._enough))
                return self._length - int(self._runs[period])
        return None
