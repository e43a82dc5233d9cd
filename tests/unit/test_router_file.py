"""The trained file: numpy gives what scikit-learn gives, and a damaged file is refused."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from typer.testing import CliRunner

from isthmus.cli.route import app
from isthmus.core.chat import ChatRequest, Message, Role, TextPart
from isthmus.core.errors import ConfigError, InvalidRequest
from isthmus.router.learned import train
from isthmus.router.learned.evaluate import ours, out_of_fold, report, split
from isthmus.router.learned.general import General
from isthmus.router.learned.ngrams import grams
from isthmus.router.learned.pair import INPUTS, Calibration, Pair, inputs
from isthmus.router.learned.question import parse
from isthmus.router.learned.rating import scores
from isthmus.router.learned.router_file import MAGIC, RouterFile, from_bytes, load, shipped
from isthmus.router.learned.section import Section
from isthmus.router.learned.train import Rows, fit, kinds_of, rows_of
from isthmus.router.learned.train_pair import fit_pair, held_out
from isthmus.router.learned.trees import forest
from isthmus.router.quality import Basis, estimate

PAIR = Pair("e" * 64, "c" * 64)


def labelled(count: int = 240) -> list[dict[str, object]]:
    """Sums are what the small model cannot do, greetings what both can."""
    rows: list[dict[str, object]] = []
    for i in range(count):
        hard = i % 2 == 0
        prompt = (
            f"Calculate {i} * {i + 3} + {i % 7}." if hard else f"Say hello to guest {i}, please"
        )
        noisy = i % 11 == 0
        rows.append(
            {
                "prompt": prompt,
                "source": ("a", "b")[i % 4 // 2],
                "domain": f"d{i % 8}",
                "weak_correct": float(hard == noisy),
                "strong_correct": 1.0,
            }
        )
    return rows


@pytest.fixture(scope="module")
def rows() -> Rows:
    return rows_of(labelled())


@pytest.fixture(scope="module")
def trained(rows: Rows) -> RouterFile:
    return RouterFile(fit(rows), provenance={"note": "made up"}, figures={"apgr": 0.9})


def test_trees_in_numpy_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 6)).astype(np.float32)
    # Whole numbers put thresholds between neighbours, where rounding would show.
    x[:, 0] = rng.integers(0, 4, 900)
    models = [
        HistGradientBoostingRegressor(max_iter=n, early_stopping=False).fit(x, x[:, 0] * x[:, k])
        for k, n in ((1, 30), (2, 1), (3, 12))
    ]
    flat = forest(models)
    flat.check(6)
    for head, model in zip(flat(x).T, models, strict=True):
        np.testing.assert_allclose(head, model.predict(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(flat(x[:1]), flat(x)[:1])
    with pytest.raises(ValueError, match="outside"):
        replace(flat, feature=flat.feature + np.int16(6)).check(6)
    with pytest.raises(ValueError, match="outside"):
        replace(flat, left=flat.left + np.int32(len(flat.left))).check(6)
    with pytest.raises(ValueError, match="finite"):
        replace(flat, value=flat.value * np.float32("nan")).check(6)


def test_training_twice_gives_the_same_bytes(rows: Rows, trained: RouterFile) -> None:
    again = replace(trained, general=fit(rows))
    assert again.to_bytes() == trained.to_bytes()


def test_what_was_learned_orders_prompts_it_never_saw(trained: RouterFile) -> None:
    hard, easy = scores(trained.general, ["Calculate 977 * 13 + 2.", "Say hello to Bob, please"])
    assert hard > easy + 0.3


def test_a_stored_file_is_the_same_file(trained: RouterFile, tmp_path: Path) -> None:
    path = tmp_path / "mine.router"
    trained.save(path)
    found = load(path)
    prompts = [str(row["prompt"]) for row in labelled(20)]
    np.testing.assert_array_equal(scores(found.general, prompts), scores(trained.general, prompts))
    assert found.provenance == {"note": "made up"}
    assert len(found.version) == 12
    assert list(tmp_path.iterdir()) == [path]


def test_any_damage_is_a_clear_error(trained: RouterFile, tmp_path: Path) -> None:
    whole, path = trained.to_bytes(), tmp_path / "mine.router"
    damaged = [whole[:cut] for cut in (0, 7, 40, len(whole) // 2, len(whole) - 1)]
    damaged += (
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for at in (0, 9, 13, 50, len(whole) // 2, len(whole) - 1)
    )
    damaged.append(whole + b"x")
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"mine\.router is no trained file") as error:
            load(path)
        assert error.value.field == "router.file"
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.router")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"features": ["other"]}, "other features"),
        ({"depth": 99}, "do not fit"),
        ({"depth": None}, "lack something"),
        ({"kinds": ["one"]}, "wrong shape"),
    ],
)
def test_general_heads_that_make_no_sense_are_refused(
    trained: RouterFile, changed: dict[str, object], says: str
) -> None:
    section = trained.general.section()
    with pytest.raises(ValueError, match=says):
        General.of(replace(section, says={**section.says, **changed}))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sections": {}}, "lacks something"),
        ({"arrays": []}, "follows its arrays"),
        ({"arrays": [["general/mean", "<f8", [1]]]}, "not read"),
        ({"arrays": [["general/mean", "<f4", [-1]]]}, "not read"),
        ({"arrays": [["general/mean", "<f4", [1 << 20, 8]]]}, "cut short"),
        ({"arrays": 5}, "lacks something"),
    ],
)
def test_a_header_that_lies_is_refused(
    trained: RouterFile, tmp_path: Path, changed: dict[str, object], says: str
) -> None:
    whole, path = trained.to_bytes(), tmp_path / "mine.router"
    start = len(MAGIC) + 8
    (length,) = struct.unpack_from("<I", whole, start - 4)
    header = json.dumps(json.loads(whole[start : start + length]) | changed).encode()
    body = whole[: start - 4] + struct.pack("<I", len(header)) + header
    body += whole[start + length : -32]
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(ConfigError, match=says):
        load(path)


def test_other_sections_are_kept_as_they_are(trained: RouterFile) -> None:
    other = Section({"of": "another look"}, {"weights": np.arange(3, dtype=np.float32)})
    found = from_bytes(replace(trained, sections={"other": other}).to_bytes())
    assert found.sections["other"].says == other.says
    np.testing.assert_array_equal(found.sections["other"].arrays["weights"], [0, 1, 2])
    broken = Section({}, {"weights": np.array([np.nan], np.float32)})
    with pytest.raises(ValueError, match="not finite"):
        from_bytes(replace(trained, sections={"other": broken}).to_bytes())


def asking(text: str) -> ChatRequest:
    return ChatRequest("r", (Message(Role.USER, (TextPart(text),)),))


def test_a_pair_that_was_labelled_is_rated_and_any_other_is_not(
    trained: RouterFile, rows: Rows
) -> None:
    known = trained.knowing(fit_pair(trained.general, rows, PAIR, {"date": "today"}))
    hard = estimate(asking("Calculate 977 * 13 + 2."), known, PAIR)
    easy = estimate(asking("Say hello to Bob, please"), known, PAIR)
    assert hard.reason is easy.reason is Basis.CALIBRATED
    assert hard.edge < 0.4
    assert easy.edge > 0.6
    assert hard.escalate > 0.3 > easy.escalate
    assert hard.terms
    for other in (None, Pair(PAIR.edge, "another"), Pair("another", PAIR.cloud)):
        assert estimate(asking("Calculate 977 * 13"), known, other).reason is Basis.UNCALIBRATED
    assert estimate(asking("hi"), trained, PAIR).reason is Basis.UNCALIBRATED


def test_a_pair_is_stored_with_where_it_comes_from(trained: RouterFile, rows: Rows) -> None:
    first = trained.knowing(fit_pair(trained.general, rows, PAIR))
    again = first.knowing(fit_pair(trained.general, rows, PAIR, {"date": "later"}))
    assert len(again.calibrations) == 1
    (known,) = again.calibrations
    assert (known.provenance["rows"], known.provenance["date"]) == ({"a": 120, "b": 120}, "later")
    loss = known.provenance["edge"]["log_loss"]
    assert max(loss["new_questions"], loss["new_sources"]) < loss["of_the_mean"]
    assert known.provenance["apgr_new_questions"]["interval"][0] > 0.5


def test_a_tier_that_is_always_right_is_all_but_certain(trained: RouterFile, rows: Rows) -> None:
    known = fit_pair(trained.general, replace(rows, weak=np.zeros(len(rows))), PAIR)
    assert isinstance(known, Calibration)
    rated = known.rate(
        inputs(trained.general.standard(rows.x[:3]), np.zeros(3, np.float32), rows.found[:3])
    )
    assert (rated[:, 1] > 0.99).all()
    assert (rated[:, 0] < 0.01).all()
    seen = np.ones((4, INPUTS), np.float32)
    alone = held_out(seen, np.array([True, False, True, True]), np.array(["s"] * 4), 0.01)
    assert alone == pytest.approx(0.75)


def test_groups_stay_whole_when_rows_are_left_out(rows: Rows) -> None:
    for by, names in (("question", rows.key), ("subject", rows.domain), ("source", rows.source)):
        fold = split(rows, by, 2)
        assert set(fold) == {0, 1}
        assert all(len(set(fold[names == name])) == 1 for name in np.unique(names))


def test_sources_that_ask_the_same_questions_are_one_kind(rows: Rows) -> None:
    assert kinds_of(rows) == {"a": "a", "b": "b"}
    twice = np.concatenate([np.arange(len(rows)), np.flatnonzero(rows.source == "a")])
    copied = rows.take(twice)
    copied.source[len(rows) :] = "c"
    assert kinds_of(copied) == {"a": "a", "b": "b", "c": "a"}


def test_a_small_kind_orders_its_questions_and_leaves_their_mean_to_all_rows(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SMALL_ROWS", 100)
    own = fit(rows)
    assert own.kinds == ("a", "b")
    assert own.blend.tolist() == [
        pytest.approx(counts) for counts in (train.SMALL, train.SMALL, train.OTHERS)
    ]
    assert abs(own.trees(rows.x)[:, :2].mean()) < 0.05
    assert (rows.strong - rows.weak).mean() > 0.3
    monkeypatch.setattr(train, "SMALL_SUBJECTS", 3)
    assert fit(rows).kinds == ()  # a collection of many kinds is none


def test_words_are_weighed_by_who_was_right_where_only_one_model_was() -> None:
    found = [grams(parse(text)) for text in ("alpha", "omega", "alpha", "omega", "sigma")]
    gain = np.array([1.0, -1.0, 1.0, -1.0, 0.0])
    weights = train._contrast(train.gram_matrix(found), gain)
    assert weights[found[0].words].min() > 0 > weights[found[1].words].max()
    assert np.abs(weights[found[4].words]).max() == 0
    assert not train._contrast(train.gram_matrix(found), np.abs(gain)).any()


def test_rows_that_were_left_out_are_scored_and_compared(rows: Rows) -> None:
    rated = out_of_fold(rows, "question", 2, ours)
    told = report(rated, rows, -rated, resamples=50)
    assert set(told) == {"a", "b"}
    for one in told.values():
        assert one["apgr"] > 0.65
        assert one["apgr_ci"][0] < one["apgr"] < one["apgr_ci"][1]
        assert one["ahead_ci"][0] > 0
        assert not one["unpredictable"]


def test_the_commands_train_score_and_judge(tmp_path: Path) -> None:
    labels, out, scored = (tmp_path / name for name in ("l.jsonl", "r.router", "s.jsonl"))
    labels.write_text("\n".join(map(json.dumps, labelled(120))))
    pair = tmp_path / "p.jsonl"
    pair.write_text(
        "\n".join(
            json.dumps({"prompt": r["prompt"], "source": r["source"],
                        "edge_correct": r["weak_correct"], "cloud_correct": 1})
            for r in labelled(60)
        )
    )  # fmt: skip
    run = CliRunner()
    arguments = ["train", str(labels), "--out", str(out), "--pair", str(pair)]
    trained = run.invoke(app, [*arguments, "--edge", "E", "--cloud", "C"])
    assert trained.exit_code == 0, trained.output
    prompts = tmp_path / "in.jsonl"
    prompts.write_text('{"id": 7, "prompt": "Calculate 5 * 5"}\n{"id": 8, "prompt": "Say hello"}\n')
    for flags in ([], ["--edge", "E", "--cloud", "C"]):
        done = run.invoke(
            app, ["score", str(prompts), "--out", str(scored), "--file", str(out), *flags]
        )
        assert done.exit_code == 0, done.output
        first, second = map(json.loads, scored.read_text().splitlines())
        assert (first["id"], second["id"]) == (7, 8)
        assert first["score"] > second["score"]
    timed = run.invoke(app, ["score", str(prompts), "--out", str(scored), "--times"])
    assert timed.stdout.startswith("alone: median ")
    assert timed.stdout.endswith("of 2 prompts\n")
    judged = run.invoke(app, ["eval", str(labels), "--file", str(out), "--json"])
    told = json.loads(judged.stdout)["a"]
    assert (told["rows"], told["trained_on"], told["flatters"]) == (60, 1.0, True)
    flattered = run.invoke(app, ["eval", str(labels), "--file", str(out)])
    assert "trained on these very questions" in flattered.stdout
    fresh = tmp_path / "fresh.jsonl"
    fresh.write_text("\n".join(json.dumps(row) for row in labelled(240)[120:]))
    honest = run.invoke(app, ["eval", str(fresh), "--file", str(out)])
    assert honest.exit_code == 0
    assert "trained on" not in honest.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": 1}', "no prompt"),
        ('{"prompt": "x"}', "no id"),
        ("[1]", "no JSON object"),
        ("{", "not JSON"),
    ],
)
def test_misuse_is_told_without_the_text(line: str, says: str, tmp_path: Path) -> None:
    prompts = tmp_path / "in.jsonl"
    prompts.write_text(line + "\n")
    done = CliRunner().invoke(app, ["score", str(prompts), "--out", str(tmp_path / "o")])
    assert isinstance(done.exception, InvalidRequest)
    assert says in done.exception.message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "x"}, "who was right"),
        ({"prompt": "x", "edge_correct": 2, "cloud_correct": 1}, "who was right"),
        ({"prompt": "x", "edge_correct": 0, "cloud_correct": 1}, "one pair"),
        ({"withheld": True, "prompt": "x"}, "no rows"),
    ],
)
def test_rows_that_teach_nothing_of_a_pair_are_refused(
    row: dict[str, object], says: str, tmp_path: Path
) -> None:
    labels = tmp_path / "in.jsonl"
    labels.write_text(json.dumps(row))
    done = CliRunner().invoke(app, ["train", "--pair", str(labels), "--out", str(tmp_path / "o")])
    assert isinstance(done.exception, InvalidRequest)
    assert says in done.exception.message


def test_the_shipped_file_is_small_and_says_where_it_comes_from() -> None:
    file = shipped()
    assert len(file.to_bytes()) < 1 << 20
    assert file.provenance["rows"]
    prompts = ["Tell me a joke", "Prove that there are infinitely many primes.", ""]
    assert np.isfinite(scores(file.general, prompts)).all()


LABELS = os.environ.get("ISTHMUS_ROUTING_LABELS")


@pytest.mark.skipif(not LABELS, reason="ISTHMUS_ROUTING_LABELS names no labelled rows")
def test_the_shipped_file_orders_the_published_rows(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", str(LABELS), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["routellm-mmlu"]["apgr"] > 0.69
