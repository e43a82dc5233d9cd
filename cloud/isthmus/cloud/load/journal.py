"""What the scripted backend wrote down: when each answer began, ended, or was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.cloud.load.histogram import Histogram


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; one that a kill cut short is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def stopped_after(path: Path, left_at_s: Mapping[str, float]) -> tuple[Histogram, int]:
    """How long after its caller went away the engine was stopped; and how many never were.

    Both clocks are the machine's monotonic one. An answer that was whole before it could be
    stopped counts for neither.
    """
    ends = {one["mark"]: one for one in entries(path) if one["what"] != "began"}
    histogram, never = Histogram(), 0
    for mark, at_s in left_at_s.items():
        end = ends.get(mark)
        if end is None:
            never += 1
        elif end["what"] == "stopped":
            histogram.record(end["at_s"] - at_s)
    return histogram, never
