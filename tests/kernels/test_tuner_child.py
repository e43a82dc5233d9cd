"""The process that trials run in: it may crash, hang and raise, and the next job is answered."""

from __future__ import annotations

from collections.abc import Iterator

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


def test_no_process_is_left_behind(child: Child) -> None:
    child.ask("word")
    assert len(psutil.Process().children()) >= 1
    before = set(psutil.Process().children())
    child.close()
    left = {process for process in before if process.is_running()}
    assert not {process for process in left if "spawn_main" in " ".join(process.cmdline())}
