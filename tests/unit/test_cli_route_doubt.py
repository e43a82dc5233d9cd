"""Training, scoring and measuring the device's doubt from files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gguf_files import write_tiny
from isthmus.cli import route_doubt
from isthmus.cli.route import app
from isthmus.core.errors import InvalidRequest
from isthmus.router.doubt.answer_head import AnswerHead
from isthmus.router.doubt.option_logits import OptionHeads
from isthmus.router.doubt.second_look import Build, SecondLook
from isthmus.router.learned.router_file import load, shipped
from isthmus.router.learned.section import Section

ROWS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Option logits of a model that likes A, and answers of which half go astray."""
    made = tmp_path_factory.mktemp("doubt")
    rng = np.random.default_rng(0)
    lines = ["task,qid,weak_model,strong_model,logit_A,logit_B,logit_C,weak_pred,strong_pred"]
    prompts, answers = [], []
    for at in range(ROWS):
        truth = int(rng.integers(0, 3))
        logits = rng.normal(size=3) + 2 * np.eye(3)[truth] + [1.5, 0, 0]
        numbers = ",".join(f"{value:.3f}" for value in logits)
        lines.append(f"quiz,{at},small,large,{numbers},{'ABC'[logits.argmax()]},{'ABC'[truth]}")
        a, b = (int(v) for v in rng.integers(2, 50, 2))
        options = rng.permutation([a * b, a + b + 1, a * b + 7]).tolist()
        pick = int(rng.integers(0, 3))
        told = "\n".join(f"{letter}. {v}" for letter, v in zip("ABC", options, strict=True))
        prompts.append(
            {
                "id": f"q{at}",
                "source": "sums",
                "domain": f"d{at % 5}",
                "prompt": f"What is {a} times {b}?\n{told}",
                "weak_correct": float(options[pick] == a * b),
                "strong_correct": float(rng.random() < 0.9),
            }
        )
        text = f"{a} * {b} = {a * b}. The answer is ({'ABC'[pick]})."
        answers.append({"id": f"q{at}", "weak_text": text})
    (made / "options.csv").write_text("\n".join(lines) + "\n")
    for name, rows in (("prompts", prompts), ("answers", answers)):
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="module")
def trained(folder: Path) -> dict[str, Section]:
    return route_doubt.train(
        options=folder / "options.csv",
        prompts=folder / "prompts.jsonl",
        answers=folder / "answers.jsonl",
    )


def test_what_was_trained_says_how_good_it_is_on_rows_that_were_held_out(
    trained: dict[str, Section],
) -> None:
    (figures,) = trained["options"].says["provenance"]["figures"]
    assert figures["apgr"] > figures["baseline"]
    provenance = trained["answer_text"].says["provenance"]
    assert provenance["apgr"] > 0.55
    assert provenance["rows"] == ROWS
    json.dumps([section.says for section in trained.values()])


def test_option_logits_are_measured_beside_the_largest_probability(
    folder: Path, trained: dict[str, Section], capsys: pytest.CaptureFixture[str]
) -> None:
    told = route_doubt.evaluate(folder / "options.csv", None, trained)
    (figures,) = told["options"]
    assert figures["fitted"]
    assert figures["better"] == pytest.approx(figures["apgr"] - figures["baseline"]["apgr"])
    route_doubt.show(told)
    assert "quiz" in capsys.readouterr().out


def test_answers_are_measured_by_source(
    folder: Path, trained: dict[str, Section], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, answers = folder / "prompts.jsonl", folder / "answers.jsonl"
    told = route_doubt.evaluate(prompts, answers, trained)
    assert told["answers"]["sums"]["apgr"] > 0.6
    route_doubt.show(told)
    assert "sums" in capsys.readouterr().out


def test_scores_are_written_one_a_line_in_the_files_order(
    folder: Path, trained: dict[str, Section], tmp_path: Path
) -> None:
    rows = route_doubt.score(folder / "options.csv", None, trained)
    assert [row["id"] for row in rows] == [str(at) for at in range(ROWS)]
    assert {(row["task"], row["weak_model"], row["strong_model"]) for row in rows} == {
        ("quiz", "small", "large")
    }
    assert all(0 <= row["score"] <= 1 for row in rows)
    route_doubt.write_scores(rows, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows

    answered = route_doubt.score(folder / "prompts.jsonl", folder / "answers.jsonl", trained)
    assert {row["id"] for row in answered} == {f"q{at}" for at in range(ROWS)}


def test_without_a_head_option_logits_go_by_the_largest_probability(folder: Path) -> None:
    (figures,) = route_doubt.evaluate(folder / "options.csv", None, {})["options"]
    assert not figures["fitted"]
    assert figures["better"] == 0


def test_without_a_head_answers_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="no head for answers"):
        route_doubt.score(folder / "prompts.jsonl", folder / "answers.jsonl", {})


def test_files_are_known_by_their_form(folder: Path) -> None:
    assert route_doubt.handles(Path("a.csv.gz"), None)
    assert route_doubt.handles(Path("a.jsonl"), folder / "answers.jsonl")
    assert not route_doubt.handles(Path("a.jsonl.gz"), None)


def test_the_commands_train_measure_and_score_doubt(folder: Path, tmp_path: Path) -> None:
    options, prompts, answers = (
        str(folder / name) for name in ("options.csv", "prompts.jsonl", "answers.jsonl")
    )
    model = write_tiny(tmp_path / "tiny.gguf")
    pair = tmp_path / "pair.jsonl"
    rows = [
        {"source": f"k{at % 4}", "prompt": "x" * (at % 9), "edge_correct": at % 2}
        for at in range(120)
    ]
    pair.write_text("".join(json.dumps({**row, "cloud_correct": 1}) + "\n" for row in rows))
    out, scored = tmp_path / "t.router", tmp_path / "s.jsonl"
    run = CliRunner()

    def told(*arguments: object) -> str:
        done = run.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    heads = ["--options", options, "--answers", answers, "--pair", pair, "--second-look", model]
    told("train", prompts, *heads, "--edge", "E", "--cloud", "C", "--out", out)
    sections = load(out).sections
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    (figures,) = sections["second_look"].says["figures"].values()
    assert figures["questions"] == 120
    assert figures["chosen"] == "prior"  # the labels have nothing to do with the prompts
    assert SecondLook.of(sections["second_look"], Build(digest)) is None

    assert json.loads(told("eval", options, "--file", out, "--json"))["options"][0]["fitted"]
    measured = json.loads(told("eval", prompts, "--answers", answers, "--file", out, "--json"))
    assert measured["answers"]["sums"]["apgr"] > 0.6
    assert "quiz" in told("eval", options, "--file", out)
    told("score", options, "--out", scored, "--file", out)
    assert len(scored.read_text().splitlines()) == ROWS
    told("score", prompts, "--answers", answers, "--out", scored, "--file", out)
    assert len(scored.read_text().splitlines()) == ROWS

    again = tmp_path / "again.router"
    told("train", prompts, "--onto", out, "--out", again)
    assert load(again).to_bytes() == load(out).to_bytes()


def test_the_shipped_file_holds_the_heads_of_doubt_and_their_figures() -> None:
    sections = shipped().sections
    heads = OptionHeads.of(sections["options"]).heads
    assert len(heads) == 15
    figures = sections["options"].says["provenance"]["figures"]
    assert all(one["better"][1] > 0 for one in figures)
    assert AnswerHead.of(sections["answer_text"]) is not None
    assert sections["answer_text"].says["provenance"]["held_out"] == "whole subjects"


def test_a_second_look_needs_the_rows_of_its_pair(folder: Path, tmp_path: Path) -> None:
    arguments = ["train", str(folder / "prompts.jsonl"), "--out", str(tmp_path / "x")]
    done = CliRunner().invoke(app, [*arguments, "--second-look", "smollm2-135m"])
    assert done.exit_code == 2
