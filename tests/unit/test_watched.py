"""Files that are read again when they change."""

from __future__ import annotations

import logging
import threading

import pytest

from isthmus.core.errors import ConfigError
from isthmus.core.watched import Watched, read_secret


@pytest.fixture(autouse=True)
def _looks_always(monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def watched(path, **more):
    return Watched((path,), lambda: read_secret(path, "token_file"), **more)


def test_a_change_is_seen_whether_the_file_is_written_over_or_replaced(path, tmp_path):
    value = watched(path)
    assert value() == "first"
    path.write_text("second")
    assert value() == "second"
    (tmp_path / "new").write_text("third!")
    (tmp_path / "new").replace(path)
    assert value() == "third!"


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path):
    """As Kubernetes hands out secrets."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "token"
    link.symlink_to("one")
    value = watched(link)
    assert value() == "one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert value() == "two"


@pytest.mark.parametrize("broken", ["", "two words"])
def test_what_cannot_be_used_leaves_the_value_before_and_is_told(path, caplog, broken):
    heard = []
    value = watched(path, on_read=heard.append)
    with caplog.at_level(logging.WARNING):
        path.write_text(broken)
        assert [value(), value()] == ["first", "first"]
    assert heard == [False]
    assert str(path) in caplog.text
    assert "two words" not in caplog.text
    path.write_text("good-again")
    assert value() == "good-again"
    assert heard == [False, True]


def test_a_file_that_is_gone_leaves_the_value_before(path):
    value = watched(path)
    path.unlink()
    assert value() == "first"


def test_at_the_start_it_has_to_be_good(path):
    path.write_text(" ")
    with pytest.raises(ConfigError) as caught:
        watched(path)
    assert caught.value.field == "token_file"


def test_between_two_looks_nothing_is_read(path, monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 3600.0)
    value = watched(path)
    path.write_text("second")
    assert value() == "first"


def test_many_threads_read_a_change_once(path):
    reads = []
    value = Watched((path,), lambda: reads.append(1) or len(reads))
    path.write_text("changed")
    threads = [threading.Thread(target=value) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 2
