"""The program `isthmus`, run in this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from isthmus.cli.main import main


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Run:
    """Run `isthmus ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Run(code, out.getvalue(), err.getvalue())
