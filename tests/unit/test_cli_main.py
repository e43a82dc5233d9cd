"""The program itself, before any command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from isthmus.cli.main import main


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "model", "list"]])
def test_the_version_is_all_that_it_prints(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert capsys.readouterr() == (f"{metadata.version('isthmus')}\n", "")


def test_a_full_disk_under_the_output_is_told_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "isthmus.cli.main", "privacy", "consent"],
            env=os.environ | {"ISTHMUS_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "error: No space left on device\n")
