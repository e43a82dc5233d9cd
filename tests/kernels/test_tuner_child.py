"""The process that trials run in: it may crash, hang and raise, and the next job is answered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import broken_kernels
from isthmus.kernels.errors import BackendUnavailable
from isthmus.kernels.tuner.child import Child, ChildFailed


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(broken_kernels.scripted, None, limit_s=1) as made:
        yield made


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("crash", "crashed .SIGSEGV"),
        ("exit", "ended with status 3"),
        ("hang", "no end after 1 s"),
        ("raise", "RuntimeError: no such word"),
    ],
)
def test_a_job_that_fails_says_how_and_the_next_is_answered(
    child: Child, word: str, reason: str
) -> None:
    assert child.ask("before") == "before"
    with pytest.raises(ChildFailed, match=reason):
        child.ask(word)
    assert child.ask("after") == "after"


def test_a_job_that_is_the_first_to_fail_after_another_gets_a_process_of_its_own() -> None:
    with Child(broken_kernels.crash_second, None) as child:
        assert [child.ask(word) for word in ("one", "two", "three")] == ["one", "two", "three"]


def test_a_device_that_cannot_be_opened_is_told() -> None:
    with (
        Child(broken_kernels.unable, None) as child,
        pytest.raises(BackendUnavailable, match="no such device"),
    ):
        child.ask("word")


def test_a_child_that_is_abandoned_fails_what_is_asked_and_what_would_be(child: Child) -> None:
    child.ask("before")
    threading.Timer(0.2, child.abandon).start()
    for _ in range(2):
        with pytest.raises(ChildFailed, match="broken off"):
            child.ask("hang", limit_s=60)


_KILLED = """
import sys
from pathlib import Path
import broken_kernels
from isthmus.kernels.tuner.child import Child
if __name__ == "__main__":
    child = Child(broken_kernels.scripted, None)
    child.ask("word")
    Path(child._scratch.name, "compiled").write_text("x")
    print(child._scratch.name, child._process.pid, flush=True)
    child.ask("sleep")
"""


def test_nothing_is_left_of_a_tuner_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(broken_kernels.__file__).parent)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as tuner:
        assert tuner.stdout is not None
        folder, pid = tuner.stdout.readline().split()
        assert Path(folder, "compiled").exists()
        tuner.kill()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(pid)).wait(30)
    assert not Path(folder).exists()


def test_no_process_is_left_behind(child: Child) -> None:
    child.ask("word")
    assert len(psutil.Process().children()) >= 1
    before = set(psutil.Process().children())
    child.close()
    left = {process for process in before if process.is_running()}
    assert not {process for process in left if "spawn_main" in " ".join(process.cmdline())}
