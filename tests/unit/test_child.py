"""The gateway's process that `isthmus up` starts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from isthmus.cli.child import Child
from isthmus.core.errors import ConfigError


def test_a_home_that_cannot_be_written_is_told_with_its_cure(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(ConfigError, match="ISTHMUS_HOME"):
        Child(("doctor",), environment={}, log_path=in_the_way / "home" / "gateway.log")


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    starter = f"""
import os, pathlib, sys
from isthmus.cli.child import Child
pathlib.Path({str(tmp_path)!r}, "sleeper.py").write_text(
    "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
)
log = pathlib.Path({str(tmp_path)!r}, "log")
child = Child((), environment={{"PYTHONPATH": {str(tmp_path)!r}}}, log_path=log, module="sleeper")
while not log.read_text().endswith(chr(10)):
    pass
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", starter], check=False).returncode == 9
    pid = int((tmp_path / "log").read_text())
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.01)
    raise AssertionError("it goes on alone")
