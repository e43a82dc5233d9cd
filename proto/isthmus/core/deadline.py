"""A point in time by which an answer must end. It travels with the request and shrinks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

from isthmus.core.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on this process's monotonic clock, in seconds; infinity means none.

    Between processes the *remaining* time travels, never the instant: clocks differ.
    """

    at_s: float

    NEVER: ClassVar[Deadline]

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline `seconds` from now; `None` is no deadline."""
        return cls.NEVER if seconds is None else cls(time.monotonic() + seconds)

    def remaining_s(self) -> float | None:
        """Seconds left, never below zero; `None` when there is no deadline."""
        return None if math.isinf(self.at_s) else max(0.0, self.at_s - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.at_s

    def check(self) -> None:
        """Raise `DeadlineExceeded` when the time is used up."""
        if self.expired:
            raise DeadlineExceeded("the deadline of the request has passed; give it more time")

    def at_most(self, seconds: float | None) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return self if seconds is None else Deadline(min(self.at_s, time.monotonic() + seconds))


Deadline.NEVER = Deadline(math.inf)
