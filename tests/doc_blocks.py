"""The fenced blocks of README and docs: what each one is, and who can run it.

A fence is ```` ```LANGUAGE title="TITLE" ````. The title is shown above the block on the site
(GitHub shows none) and says one or both of, with " · " between:

- the file that the reader makes of it (`edge.toml`, `values.yaml`, `orders.py`);
- `needs: WORD`, what this machine lacks to run it (`NEEDS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

NEEDS = {
    "GPU": "a graphics processor, or a phone's",
    "vLLM": "an installed vLLM (make test-vllm has the CPU build)",
    "Docker": "a container runtime",
    "cluster": "a Kubernetes cluster, or a cloud's account",
    "Alertmanager": "a running Alertmanager",
    "Prometheus": "Prometheus, as distributions have it (make check-dashboards fetches Debian's)",
    "root": "the rights of an administrator of a machine",
    "phone": "Android with Termux",
    "Raspberry Pi": "the board, or any other Linux on aarch64",
    "network": "downloads from a package index or a model hub, beyond what the tests fetch",
    "gateway": "a gateway of yours on another machine, with names and certificates of its own",
    "questions": "graded questions or labelled texts of your own",
    "a person": "somebody who looks at a terminal",
    "minutes": "more time than a test may take",
}
"""The words that may stand behind `needs:`, and what they mean."""

LANGUAGES = frozenset({"sh", "console", "text", "python", "toml", "yaml", "json", "promql", "c"})

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+)(?P<rest>.*)")
_INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]*)")?')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    """Its page, from the repository's root."""
    line: int
    """Where its fence is."""
    language: str
    text: str
    file: str | None = None
    """What the reader saves it as."""
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page with blocks for readers, README first."""
    return [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The page's blocks in their order. Raises `ValueError` for one that is of no known class."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    return list(_read(name, page.read_text(encoding="utf-8")))


def _read(page: str, text: str) -> Iterator[Block]:
    opened: tuple[int, str, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.fullmatch(line)
        if opened is None and fence is not None:
            opened = number, fence["indent"], fence["ticks"], fence["rest"]
            lines = []
        elif opened is not None and line.strip() == opened[2]:
            began, indent, _, info = opened
            inside = "".join(f"{one.removeprefix(indent)}\n" for one in lines)
            yield _block(page, began, info, inside)
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: the fence is never closed")


def _block(page: str, line: int, info: str, text: str) -> Block:
    said = _INFO.fullmatch(info)
    if said is None or said["language"] not in LANGUAGES:
        raise ValueError(f"{page}:{line}: nobody knows what a block {info!r} is")
    file = needs = None
    for part in (said["title"] or "").split(" · "):
        word = part.removeprefix("needs: ")
        if word != part and word in NEEDS:
            needs = word
        elif re.fullmatch(r"[\w./-]+\.\w+", part):
            file = part
        elif part:
            raise ValueError(f"{page}:{line}: {part!r} is neither a file nor a known need")
    return Block(page, line, said["language"], text, file, needs)
