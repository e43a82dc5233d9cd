"""A page of the documentation, pasted block after block into one terminal, as a reader would."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from doc_blocks import ROOT, Block
from doc_commands import check_script, is_server
from processes import Program

_READY = "Isthmus is up|ready: |gateway on |^{"
_STAND_IN = "python -m isthmus.cloud.load.upstream"
_READY_WITHIN_S = 120
_BLOCK_WITHIN_S = 180
_PRELUDE = """\
set -euo pipefail
[ ! -f "$STATE" ] || source "$STATE"
isthmus() {
  case "$1" in
    up) command isthmus "$@" --gateway "$GATEWAY" --gateway-metrics "$METRICS" ;;
    chat | top) command isthmus "$@" --url "http://$AGENT" ;;
    *) command isthmus "$@" ;;
  esac
}
curl() { command curl --fail-with-body --silent --show-error "$@"; }
# What has a target of its own in CI. A reader's make demo is isthmus up.
make() { case "$1" in demo) isthmus up ;; *) echo "(make $*)" ;; esac; }
set -a
"""
"""Ports of the test's own, errors that show, and the variables of the blocks before."""
_EPILOGUE = '\nset +a; export -p | grep -v "^declare -x STATE=" > "$STATE"\n'
_RUN_PYTHON = """\
import ast, asyncio, inspect, sys
code = compile(open(sys.argv[1]).read(), sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
made = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(made):
    asyncio.run(made)
"""
"""Runs a file as `python -m asyncio` would: await may stand outside of functions."""


class Failed(Exception):
    """A block that did not work."""


@dataclass
class Terminal:
    """A folder of its own, with the repository's environment, and an ISTHMUS_HOME."""

    folder: Path
    home: Path
    ran: list[str] = field(default_factory=list)
    """The blocks that were run."""
    left: list[str] = field(default_factory=list)
    """Those that need what is not here."""

    def __post_init__(self) -> None:
        """Lay out the folder as a checkout would be, as far as pages speak of it."""
        self._stack = ExitStack()
        self._said = self._typed = ""
        for name in (".venv", "deploy", "docs", "tests", "scripts", "README.md"):
            (self.folder / name).symlink_to(ROOT / name)
        self._agent, self._gateway, self._metrics, self._upstream = _free_addresses(4)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what was started."""
        self._stack.close()

    def paste(self, block: Block, then: Block | None = None) -> None:
        """Save, run or read one block, where the next one shows what a person types into it.

        Raises `Failed`.
        """
        shown = then.text if then is not None and then.language == "text" else ""
        self._typed = "".join(re.findall(r"(?m)^> (.*\n)", shown))
        text = self._here(block.text)
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.needs is not None:
            self.left.append(str(block))
            self._said = ""
        elif block.language == "sh":
            self._shell(block, text)
        elif block.language == "python" and block.file is None:
            (self.folder / "pasted.py").write_text(text, encoding="utf-8")
            self._run(block, [sys.executable, "-c", _RUN_PYTHON, "pasted.py"])
        elif block.language == "text" and self._said:
            self._compare(block)
        else:
            self._said = ""

    def _here(self, text: str) -> str:
        """The text with this terminal's ports."""
        text = text.replace(".venv/bin/isthmus", "isthmus")
        for usual, ours in (
            ("127.0.0.1:8080", self._agent),
            ("127.0.0.1:50051", self._gateway),
            ("127.0.0.1:9464", self._metrics),
            ("127.0.0.1:8000", self._upstream),
            ("}' 8000", f"}}' {self._upstream.rpartition(':')[2]}"),
        ):
            text = text.replace(usual, ours)
        return text

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "ISTHMUS_HOME": str(self.home),
            "ISTHMUS_EDGE_PORT": self._agent.rpartition(":")[2],
            "ISTHMUS_CLOUD_LISTEN": self._gateway,
            "ISTHMUS_CLOUD_METRICS_LISTEN": self._metrics,
            "AGENT": self._agent,
            "GATEWAY": self._gateway,
            "METRICS": self._metrics,
            "STATE": str(self.folder / "state.sh"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
        }

    def _shell(self, block: Block, text: str) -> None:
        ours = check_script(block.text)
        script = f"{_PRELUDE}{text}{_EPILOGUE}"
        waits = block.text.startswith(("make demo", _STAND_IN))
        if waits or any(is_server(words) for words in ours):
            server = Program(
                "-c", script, path=Path("/bin/bash"), folder=self.folder, **self._environment()
            )
            self._stack.callback(server.kill)
            server.wait_for(_READY, _READY_WITHIN_S)
            self.ran.append(str(block))
            self._said = ""
            return
        self._run(block, ["/bin/bash", "-c", script])

    def _run(self, block: Block, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            input=self._typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BLOCK_WITHIN_S,
            check=False,
        )
        sys.stdout.write(f"--- {block}\n{done.stdout}\n")
        if done.returncode:
            raise Failed(f"{block} ended with {done.returncode}:\n{done.stdout[-3000:]}")
        self.ran.append(str(block))
        self._said = self._typed + done.stdout

    def _compare(self, block: Block) -> None:
        """Loosely: figures differ from machine to machine, words do not."""
        said = set(re.findall(r"[^\W\d_]{3,}", self._said))
        shown = re.findall(r"[^\W\d_]{3,}", block.text)
        strange = [word for word in shown if word not in said]
        if len(strange) > len(shown) / 5:
            raise Failed(f"{block} shows what the block before it did not print: {strange}")
        self._said = ""


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
