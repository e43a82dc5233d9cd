"""A pull ends with the right file or with a reason, whatever the network and the machine do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_sources import MODEL, SHA256, FakeSources, wheel
from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.sources import download
from isthmus.engine.sources.download import Progress
from isthmus.engine.sources.pull import pull
from waiting import happens

WHEEL = """
[[models.sources]]
kind = "wheel"
package = "demo_model"
version = "1.0"
member = "demo/model.gguf"
"""
HUB = """
[[models.sources]]
kind = "hub"
repo = "someone/demo"
file = "file.gguf"
"""
PULL = "import sys; from isthmus.engine.sources.pull import pull; print(pull('demo'))"


def write_catalogue(home: Path, *sources: str, sha256: str = SHA256) -> None:
    home.mkdir(exist_ok=True)
    (home / "models.toml").write_text(
        f'[[models]]\nname = "demo"\ntitle = "Demo"\narchitecture = "llama"\n'
        f'file = "model.gguf"\nsize_bytes = {len(MODEL)}\nsha256 = "{sha256}"\n' + "".join(sources)
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("ISTHMUS_HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    write_catalogue(home, WHEEL)
    return home


@pytest.fixture
def sources(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSources]:
    monkeypatch.setattr(download, "_PAUSE_S", 0.01)
    with FakeSources() as sources:
        monkeypatch.setenv("PIP_INDEX_URL", f"{sources.url}/simple")
        monkeypatch.setenv("HF_ENDPOINT", sources.url)
        yield sources


def target(home: Path) -> Path:
    return home / "models" / "demo" / "model.gguf"


def kill_halfway(home: Path) -> None:
    """Pull in a process of its own, and kill it when some of the file has arrived."""
    killed = subprocess.Popen([sys.executable, "-c", PULL])
    assert happens(lambda: sum(f.stat().st_size for f in partials(home)) >= 200_000)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not target(home).exists()


def partials(home: Path) -> list[Path]:
    return [path for path in (target(home).parent / ".partial").rglob("*") if path.is_file()]


def assert_whole(home: Path) -> None:
    assert target(home).read_bytes() == MODEL
    assert not (target(home).parent / ".partial").exists()


@pytest.mark.parametrize("html", [False, True])
def test_a_model_comes_out_of_a_wheel(home: Path, sources: FakeSources, html: bool) -> None:
    sources.html = html
    seen: list[Progress] = []
    assert pull("demo", progress=seen.append) == target(home)
    assert_whole(home)
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(sources.wheel)


def test_a_model_that_is_here_is_not_asked_for_again(home: Path, sources: FakeSources) -> None:
    pull("demo")
    asked = len(sources.requests)
    assert pull("demo") == target(home)
    assert len(sources.requests) == asked


def test_a_model_that_was_damaged_on_the_disk_is_fetched_again(
    home: Path, sources: FakeSources
) -> None:
    path = pull("demo")
    path.write_bytes(bytes(len(MODEL)))
    assert pull("demo") == path
    assert path.read_bytes() == MODEL


def test_a_cut_connection_is_taken_up_where_it_broke(home: Path, sources: FakeSources) -> None:
    sources.cut_after = [300_000, 200_000]
    pull("demo")
    assert_whole(home)
    assert sources.downloads() == [None, "bytes=300000-", "bytes=500000-"]


def test_a_pull_that_was_killed_is_continued_by_the_next(home: Path, sources: FakeSources) -> None:
    sources.pause_s = 0.05
    kill_halfway(home)
    sources.pause_s = 0
    pull("demo")
    assert_whole(home)
    resumed = sources.downloads()[-1]
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 200_000


def test_two_pulls_at_once_both_end_well_with_one_download(
    home: Path, sources: FakeSources
) -> None:
    sources.pause_s = 0.03
    pulls = [
        subprocess.Popen([sys.executable, "-c", PULL], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].strip() for process in pulls]
    assert said == [str(target(home))] * 2
    assert [process.returncode for process in pulls] == [0, 0]
    assert_whole(home)
    assert sources.downloads() == [None]


def test_a_wrong_checksum_leaves_nothing_behind(home: Path, sources: FakeSources) -> None:
    write_catalogue(home, WHEEL, sha256="0" * 64)
    with pytest.raises(ModelUnavailable, match=rf"sha256 is {SHA256}, but the catalogue says 0000"):
        pull("demo")
    assert not target(home).exists()
    assert not (target(home).parent / ".partial").exists()


def test_a_spoiled_part_of_an_earlier_pull_is_thrown_away(home: Path, sources: FakeSources) -> None:
    partial = target(home).parent / ".partial"
    partial.mkdir(parents=True)
    part = partial / "demo_model-1.0-py3-none-any.whl.part"
    part.write_bytes(sources.wheel[:1000] + b"\0" * 100_000)
    pull("demo")
    assert_whole(home)
    assert sources.downloads() == ["bytes=101000-", None]


def test_a_part_longer_than_the_file_is_thrown_away(home: Path, sources: FakeSources) -> None:
    partial = target(home).parent / ".partial"
    partial.mkdir(parents=True)
    (partial / "demo_model-1.0-py3-none-any.whl.part").write_bytes(sources.wheel + b"more")
    pull("demo")
    assert_whole(home)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (wheel(member="demo/other.gguf"), "no file demo/model.gguf"),
        (wheel(content=MODEL * 2), "has 2,048,008 bytes, not 1,024,004"),
        (b"<html>", "damaged"),
    ],
)
def test_a_wheel_that_is_not_the_right_one_is_refused(
    home: Path, sources: FakeSources, content: bytes, told: str
) -> None:
    sources.wheel = content
    with pytest.raises(ModelUnavailable, match=told):
        pull("demo")
    assert not target(home).exists()


def test_a_model_comes_from_a_mirror_of_the_hub(home: Path, sources: FakeSources) -> None:
    write_catalogue(home, HUB)
    seen: list[Progress] = []
    pull("demo", progress=seen.append)
    assert_whole(home)
    assert ("GET", "/someone/demo/resolve/main/file.gguf", None) in sources.requests
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(MODEL)


def test_a_hub_download_that_was_killed_is_continued_by_the_next(
    home: Path, sources: FakeSources
) -> None:
    write_catalogue(home, HUB)
    sources.pause_s = 0.05
    kill_halfway(home)
    sources.pause_s = 0
    pull("demo")
    assert_whole(home)
    assert [asked is None for asked in sources.downloads()] == [True, False]


def test_a_hub_file_that_is_another_is_refused(home: Path, sources: FakeSources) -> None:
    write_catalogue(home, HUB)
    sources.hub_file = MODEL[:-1] + b"!"
    with pytest.raises(ModelUnavailable, match="sha256"):
        pull("demo")
    assert not target(home).exists()


def test_the_next_source_is_tried_when_one_fails(home: Path, sources: FakeSources) -> None:
    write_catalogue(home, WHEEL.replace('"1.0"', '"7.7"'), HUB)
    pull("demo")
    assert_whole(home)


def test_offline_mode_asks_the_hub_for_nothing(
    home: Path, sources: FakeSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_catalogue(home, HUB)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
        pull("demo")
    assert sources.requests == []


def test_an_error_names_every_source_with_its_reason_and_the_way_out(
    home: Path, sources: FakeSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.status = 404
    write_catalogue(home, WHEEL, HUB, '[[models.sources]]\nkind = "path"\npath = "/no/where"\n')
    with pytest.raises(ModelUnavailable) as raised:
        pull("demo")
    assert list(raised.value.reasons) == [
        "wheel demo_model 1.0",
        "Hugging Face someone/demo",
        "path /no/where",
    ]
    assert "404" in raised.value.reasons["wheel demo_model 1.0"]
    assert "404" in raised.value.reasons["Hugging Face someone/demo"]
    for way_out in ("proxy", "HF_ENDPOINT", "PIP_INDEX_URL", str(target(home))):
        assert way_out in str(raised.value)


def test_a_server_that_is_not_there_is_told_without_credentials(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hunter2@127.0.0.1:9/simple")
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9/simple: no connection") as raised:
        pull("demo")
    assert "hunter2" not in str(raised.value)


def test_a_mirror_that_refuses_is_told_without_credentials(
    home: Path, sources: FakeSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.status = 404
    write_catalogue(home, HUB)
    monkeypatch.setenv("HF_ENDPOINT", sources.url.replace("//", "//me:hunter2@"))
    with pytest.raises(ModelUnavailable, match=sources.url) as raised:
        pull("demo")
    assert "hunter2" not in str(raised.value)


def test_the_index_of_pips_own_settings_is_used(
    home: Path, sources: FakeSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {sources.url}/simple/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    pull("demo")
    assert_whole(home)


def test_a_model_that_is_a_local_path_is_used_in_place(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "here.gguf"
    path.write_bytes(MODEL)
    write_catalogue(home, f'[[models.sources]]\nkind = "path"\npath = "{path}"\n')
    assert pull("demo") == path
    assert pull(str(path)) == path
    assert not target(home).exists()


def test_a_local_path_with_another_file_is_told_and_left_alone(home: Path, tmp_path: Path) -> None:
    local = tmp_path / "mine.gguf"
    local.write_bytes(bytes(len(MODEL)))
    write_catalogue(home, f'[[models.sources]]\nkind = "path"\npath = "{local}"\n')
    with pytest.raises(ModelUnavailable, match="sha256"):
        pull("demo")
    assert local.read_bytes() == bytes(len(MODEL))


def test_a_folder_that_cannot_be_written_is_told(home: Path, sources: FakeSources) -> None:
    (home / "models").write_text("a file in the way")
    with pytest.raises(ModelUnavailable, match="ISTHMUS_HOME"):
        pull("demo")
