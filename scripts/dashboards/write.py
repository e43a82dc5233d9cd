"""deploy/grafana/*.json, written from the modules of this package.

python -m dashboards.write            # writes them
python -m dashboards.write --check    # ends with 1 when one is stale, missing or nobody's
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import cloud, cost, fleet, overview, privacy, routing
from dashboards.board import Board

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS: Final[tuple[Board, ...]] = (
    overview.BOARD,
    routing.BOARD,
    privacy.BOARD,
    cost.BOARD,
    cloud.BOARD,
    fleet.BOARD,
)


def written() -> dict[str, str]:
    """File name → text."""
    return {
        f"{board.name}.json": json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True)
        + "\n"
        for board in BOARDS
    }


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    wanted = written()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if "--check" in arguments:
        stale = sorted(name for name in wanted | there if wanted.get(name) != there.get(name))
        if stale:
            print(f"deploy/grafana is stale ({', '.join(stale)}): make dashboards", file=sys.stderr)
        return min(1, len(stale))
    for name in there.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
