"""A model folder comes from the hub whole and verified, with what it needs and no more."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny_models
from fake_sources import FakeSources
from isthmus.cli.main import main
from isthmus.engine.errors import ModelNotSupported, ModelUnavailable, UnknownModel
from isthmus.engine.formats import safetensors
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.formats.safetensors import Described
from isthmus.engine.sources import download
from isthmus.engine.sources.catalogue import catalogue, locate, resolve
from isthmus.engine.sources.download import Progress
from isthmus.engine.sources.pull import pull
from waiting import happens

NAME = "someone/tiny"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NEEDED = {"config.json", "tokenizer.json", "tokenizer_config.json", safetensors.INDEX, *SHARDS}
PULL = f"from isthmus.engine.sources.pull import pull; print(pull({NAME!r}))"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny llama in two shards, beside what its makers put there too."""
    folder = tiny_models.write_folder(tmp_path_factory.mktemp("m") / "tiny", "llama")
    tensors = tiny_models.weights(tiny_models.CONFIGS["llama"])
    names = list(tensors)
    parts = dict(zip(SHARDS, (names[:9], names[9:]), strict=True))
    for file, part in parts.items():
        described = [Described(name, "F16", tensors[name].shape) for name in part]
        safetensors.write(folder / file, described, ([tensors[name]] for name in part))
    (folder / safetensors.WEIGHTS).unlink()
    index = {name: file for file, part in parts.items() for name in part}
    (folder / safetensors.INDEX).write_text(json.dumps({"weight_map": index}))
    other = dict.fromkeys(("README.md", "pytorch_model.bin", "extra.safetensors"), b"not needed")
    return files_of(folder) | other


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def sources(
    home: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeSources]:
    monkeypatch.setattr(download, "_PAUSE_S", 0.01)
    with FakeSources(repository=dict(files)) as sources:
        monkeypatch.setenv("HF_ENDPOINT", sources.url)
        yield sources


def target(home: Path) -> Path:
    return home / "models" / "someone" / "tiny" / "tiny"


def partial(home: Path) -> Path:
    return target(home).parent / ".partial"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 0


def test_a_repository_is_pulled_by_its_name_with_what_the_engine_reads(
    home: Path, sources: FakeSources, files: dict[str, bytes]
) -> None:
    seen: list[Progress] = []
    assert pull(NAME, progress=seen.append) == target(home)
    here = files_of(target(home))
    sums = here.pop("SHA256SUMS").decode().splitlines()
    assert here == {name: files[name] for name in NEEDED}
    assert len(sums) == len(NEEDED)
    assert sorted(sources.fetched()) == sorted(NEEDED)
    assert not partial(home).exists()
    documents = sum(len(files[name]) for name in NEEDED - {*SHARDS})
    assert seen[0].done_bytes == documents
    steps = [step.done_bytes for step in seen]
    assert steps == sorted(steps)
    assert {step.total_bytes for step in seen} == {sum(len(files[name]) for name in NEEDED)}
    assert steps[-1] == seen[-1].total_bytes


def test_a_pulled_repository_is_a_model_like_any_other(
    home: Path, sources: FakeSources, capsys: pytest.CaptureFixture[str]
) -> None:
    assert locate(resolve(NAME)) is None
    run("model", "pull", NAME, "--json")
    weights = sum(len(sources.repository[shard]) for shard in SHARDS)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == {"name": NAME, "path": str(target(home)), "size_bytes": weights}
    assert (locate(resolve(NAME)), catalogue()[NAME].size_bytes) == (target(home), weights)
    run("generate", "--model", NAME, "--prompt", "the", "--max-tokens", "3", "--ignore-eos",
        "--backend", "native", "--threads", "1", "--json")  # fmt: skip
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(answer["token_ids"]) == 3


def test_one_that_is_here_is_not_asked_for_again(home: Path, sources: FakeSources) -> None:
    pull(NAME)
    asked = len(sources.requests)
    assert pull(NAME) == target(home)
    assert len(sources.requests) == asked


def test_a_file_that_was_damaged_on_the_disk_is_fetched_again(
    home: Path, sources: FakeSources, files: dict[str, bytes]
) -> None:
    spoiled = pull(NAME) / SHARDS[1]
    spoiled.write_bytes(bytes(len(files[SHARDS[1]])))
    pull(NAME)
    assert spoiled.read_bytes() == files[SHARDS[1]]


def test_a_catalogue_entry_may_name_a_repository(home: Path, sources: FakeSources) -> None:
    home.mkdir()
    (home / "models.toml").write_text(
        '[[models]]\nname = "mine"\ntitle = "Mine"\narchitecture = "llama"\nfile = "tiny-llama"\n'
        f'[[models.sources]]\nkind = "hub"\nrepo = "{NAME}"\nrevision = "v1"\n'
    )
    assert pull("mine") == home / "models" / "mine" / "tiny-llama"
    assert any(path.endswith("/revision/v1") for _, path, _ in sources.requests)
    assert read_folder(pull("mine")).config.layers == 2


def test_a_cut_connection_is_taken_up_where_it_broke(home: Path, sources: FakeSources) -> None:
    sources.cut_after = [100, 200]
    read_folder(pull(NAME))
    ranges = [r for method, path, r in sources.requests if method == "GET" and r]
    assert ranges == ["bytes=100-", "bytes=300-"]


def test_what_has_arrived_is_kept_when_the_hub_goes_away(
    home: Path, sources: FakeSources, files: dict[str, bytes]
) -> None:
    del sources.repository[SHARDS[1]]
    with pytest.raises(ModelUnavailable, match=rf"no {SHARDS[1]}, which its index names"):
        pull(NAME)
    sources.repository[SHARDS[1]] = files[SHARDS[1]]
    sources.spoiled[SHARDS[1]] = b"?"
    with pytest.raises(ModelUnavailable, match="kept for the next pull"):
        pull(NAME)
    assert not target(home).exists()
    del sources.spoiled[SHARDS[1]]
    sources.requests.clear()
    read_folder(pull(NAME))
    assert sources.fetched() == [SHARDS[1]]


def test_a_pull_that_was_killed_is_continued_by_the_next(
    home: Path, sources: FakeSources, files: dict[str, bytes]
) -> None:
    sources.repository[SHARDS[0]] += bytes(4 << 20)  # of another commit, so that it takes a while
    sources.pause_s = 0.05
    killed = subprocess.Popen([sys.executable, "-c", PULL])
    part = partial(home) / "folder" / SHARDS[0]
    assert happens(lambda: part.exists() and part.stat().st_size > 200_000)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not target(home).exists()
    sources.pause_s = 0
    sources.requests.clear()
    pull(NAME)
    resumed = [r for method, path, r in sources.requests if method == "GET" and r]
    assert len(resumed) == 1
    assert int(resumed[0].removeprefix("bytes=").rstrip("-")) > 200_000
    assert (target(home) / SHARDS[0]).read_bytes() == sources.repository[SHARDS[0]]


def test_a_part_of_another_commit_is_replaced(
    home: Path, sources: FakeSources, files: dict[str, bytes]
) -> None:
    old = partial(home) / "folder"
    old.mkdir(parents=True)
    (old / SHARDS[0]).write_bytes(bytes(1000))
    (old / "config.json").write_bytes(b"{}" * 5000)
    (old / "model-00003-of-00003.safetensors").write_bytes(b"gone")
    assert files_of(pull(NAME)).keys() == NEEDED | {"SHA256SUMS"}
    read_folder(target(home))


@pytest.mark.parametrize("name", ["config.json", SHARDS[0]])
def test_a_file_that_is_not_what_the_hub_says_is_refused(
    home: Path, sources: FakeSources, files: dict[str, bytes], name: str
) -> None:
    sources.spoiled[name] = files[name][:-1] + b"!"
    with pytest.raises(ModelUnavailable, match=rf"{name} is not the file"):
        pull(NAME)
    assert not target(home).exists()


def test_a_gated_repository_says_what_to_do(home: Path, sources: FakeSources) -> None:
    sources.is_gated = True
    with pytest.raises(ModelUnavailable, match=rf"gated.*{sources.url}/{NAME}.*HF_TOKEN"):
        pull(NAME)


def test_a_repository_that_is_not_there_may_be_private(home: Path, sources: FakeSources) -> None:
    with pytest.raises(ModelUnavailable, match=r"no such repository.*private.*HF_TOKEN"):
        pull("someone/else")


def test_a_repository_of_gguf_files_says_so(home: Path, sources: FakeSources) -> None:
    sources.repository = {"a.Q4_0.gguf": b"", "README.md": b""}
    with pytest.raises(ModelUnavailable, match=r"config\.json.*it has a\.Q4_0\.gguf.*models\.toml"):
        pull(NAME)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "mamba2"}, r"'mamba2' is not supported; supported are llama"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"'gptq'.*supported are AWQ"),
    ],
)
def test_what_cannot_be_read_is_refused_before_its_weights_are_fetched(
    home: Path,
    sources: FakeSources,
    files: dict[str, bytes],
    changes: dict[str, object],
    told: str,
) -> None:
    config = json.loads(files["config.json"]) | changes
    sources.repository["config.json"] = json.dumps(config).encode()
    with pytest.raises(ModelNotSupported, match=told):
        pull(NAME)
    assert not {*SHARDS} & {*sources.fetched()}


def test_an_index_cannot_lead_out_of_the_folder(home: Path, sources: FakeSources) -> None:
    index = {"weight_map": {"x": "../../evil.safetensors"}}
    sources.repository[safetensors.INDEX] = json.dumps(index).encode()
    with pytest.raises(ModelUnavailable, match="outside its folder"):
        pull(NAME)


def test_offline_mode_asks_for_nothing_and_names_the_way_out(
    home: Path, sources: FakeSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match=r"HF_HUB_OFFLINE.*by its path"):
        pull(NAME)
    assert sources.requests == []


def test_a_name_that_is_no_repository_is_unknown(home: Path) -> None:
    for name in ("../secret", "a/b/c", "/etc/passwd"):
        with pytest.raises(UnknownModel, match="OWNER/NAME"):
            resolve(name)
