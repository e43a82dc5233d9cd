"""The models that `isthmus route label` asks: here, behind a gateway, behind an endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_files import write_tiny
from isthmus.cli.main import main
from isthmus.cli.pair import RemoteModel, price_of, tier_of
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ConfigError, InvalidRequest, PolicyRefused, Unavailable
from isthmus.core.money import Price
from isthmus.edge.consent import keep_consent
from isthmus.edge.testing import ScriptedEngine, running_agent
from isthmus.engine.sources.checksums import sha256_of, sha256_of_model
from isthmus.router.labels.graded import Question, questions
from isthmus.router.labels.label import LabelFile, Labeller, ask, label_all

WORDS = ("It", " is", " Oslo", ".")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def asked(*prompts: str) -> list[Question]:
    rows = [
        {"id": i, "prompt": prompt, "grader": "contains", "answer": "Oslo"}
        for i, prompt in enumerate(prompts)
    ]
    return questions(list(enumerate(rows, 1)))


def request(prompt: str) -> ChatRequest:
    return asked(prompt)[0].request(top_logprobs=5)


async def test_a_gateway_is_asked_through_the_privacy_gate() -> None:
    keep_consent(True)
    backend = ScriptedBackend(WORDS)
    async with running_gateway(backend) as address:
        tier = await tier_of(address)
        said = await ask(tier, request("My number is 13812345678. Where is the opera of Norway?"))
        await tier.close()
    assert said.text == "It is Oslo."
    assert said.prompt_tokens > 0
    assert said.tokens == len(WORDS)
    assert tier.key == "scripted"
    (left,) = backend.requests
    assert "13812345678" not in left.messages[-1].text
    assert "opera" in left.messages[-1].text


async def test_what_must_stay_is_not_asked_of_the_gateway(tmp_path: Path) -> None:
    keep_consent(True)
    backend = ScriptedBackend(WORDS)
    async with running_gateway(backend) as address:
        tier = await tier_of(address)
        assert isinstance(tier, RemoteModel)
        labeller = Labeller(_Scripted(), tier)
        file = LabelFile(tmp_path / "labels.jsonl", labeller.pair)
        tally = await label_all(labeller, asked("密码是blue7788, 在哪里？", "Where?"), file)
        file.close()
        await tier.close()
    assert (tally.labelled, tally.withheld, tally.failed) == (2, 1, 0)
    assert [one.messages[-1].text for one in backend.requests] == ["Where?"]


class _Scripted(ScriptedBackend):
    key = "small"
    price = Price()


async def test_without_consent_nothing_is_asked_of_a_gateway() -> None:
    backend = ScriptedBackend(WORDS)
    async with running_gateway(backend) as address:
        with pytest.raises(ConfigError, match="consent"):
            await tier_of(address)
    assert backend.requests == []


async def test_a_gateway_that_is_not_there_is_told_at_the_start() -> None:
    keep_consent(True)
    with pytest.raises(Unavailable):
        await tier_of("127.0.0.1:9")


async def test_an_endpoint_needs_the_name_of_its_model() -> None:
    with pytest.raises(InvalidRequest, match="model's name"):
        await tier_of("http://127.0.0.1:9/v1")


async def test_without_consent_nothing_is_asked_of_an_endpoint_either() -> None:
    with pytest.raises(ConfigError, match="consent"):
        await tier_of("http://127.0.0.1:9/v1", endpoint_model="m")


async def test_an_endpoint_is_asked_through_the_privacy_gate_too() -> None:
    keep_consent(True)
    # Our own agent speaks OpenAI's API: it plays the endpoint.
    async with running_agent(ScriptedEngine(WORDS)) as upstream:
        tier = await tier_of(f"{upstream.url}/v1", endpoint_model="isthmus-edge")
        said = await ask(tier, request("My number is 13812345678. Where is the opera of Norway?"))
        with pytest.raises(PolicyRefused):
            await ask(tier, request("密码是blue7788, 在哪里？"))
        await tier.close()
        engine = upstream.agent.device.engine
    assert said.text == "It is Oslo."
    assert tier.key == "isthmus-edge"
    assert isinstance(engine, ScriptedEngine)
    (left,) = engine.requests
    assert "13812345678" not in left.messages[-1].text


async def test_a_model_of_this_machine_needs_no_consent_and_is_named_by_its_weights(
    tmp_path: Path,
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    tier = await tier_of(str(path), threads=1, price=Price())
    said = await ask(tier, asked("a b")[0].request(max_tokens=3, top_logprobs=5))
    await tier.close()
    assert said.tokens == 3
    assert said.doubt()["entropy"] > 0
    assert tier.key == sha256_of(path) == sha256_of_model(path)


@pytest.mark.parametrize("text", ["1", "1/x", "-1/2", "nan/1", "1/2/3", ""])
def test_a_price_is_two_amounts(text: str) -> None:
    with pytest.raises(InvalidRequest):
        price_of(text)


def label(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["route", "label", *arguments])
    return int(caught.value.code or 0)


def test_the_command_labels_a_file_and_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_tiny(tmp_path / "tiny.gguf"))
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "labels.jsonl"
    row = {"prompt": "a b", "grader": "contains", "answer": "a"}
    lines = [json.dumps({"id": str(i)} | row) + "\n" for i in range(3)]
    common = ["--edge", model, "--cloud", model, "--out", str(out), "--threads", "1", "--json"]
    prompts.write_text(lines[0])
    assert label(str(prompts), *common, "--price", "1/2") == 0
    prompts.write_text("".join(lines))
    assert label(str(prompts), *common) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["labelled"], told["already_there"], told["failed"]) == (2, 1, 0)
    kept = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [one["id"] for one in kept] == ["0", "1", "2"]
    assert kept[0]["edge_answer"] == kept[0]["cloud_answer"]
    assert kept[0]["cloud_micro_usd"] > 0
    assert kept[0]["edge_micro_usd"] == 0


def test_bad_rows_end_the_command_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "1", "prompt": "p"}\n{"id": "2", "prompt": "p", "grader": "x"}\n')
    code = label(str(prompts), "--cloud", "no-such-model", "--out", str(tmp_path / "out.jsonl"))
    assert code == 2
    told = capsys.readouterr().err
    assert "line 1: grader is missing" in told
    assert "line 2: grader is none of" in told
    assert not (tmp_path / "out.jsonl").exists()
