"""Traces are read as they are published, and told by line and field where they are wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from isthmus.router.simulation.servegen import read_servegen
from isthmus.router.simulation.trace import Resampled, Trace, TraceError, read_trace

AZURE = "arrival_s,context_tokens,generated_tokens\n0.0,374,44\n9.5,879,55\n4.3,396,109\n"


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_azures_columns_are_known_and_rows_are_put_in_order(tmp_path: Path, name: str) -> None:
    requests = read_trace(write(tmp_path, AZURE, name))
    assert requests.arrival_s.tolist() == [0.0, 4.3, 9.5]
    assert requests.prompt_tokens.tolist() == [374, 396, 879]
    assert requests.answer_tokens.tolist() == [44, 109, 55]
    assert np.isnan(requests.difficulty).all()


def test_dates_count_from_the_first_request_and_difficulty_may_be_left_empty(
    tmp_path: Path,
) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens,difficulty\n"
        "2023-11-16 18:15:46.6805900,10,5,0.25\n2023-11-16 18:15:47.1805900,12,6,\n"
    )
    requests = read_trace(write(tmp_path, text))
    assert requests.arrival_s.tolist() == [0.0, 0.5]
    assert requests.difficulty.tolist() == [0.25, pytest.approx(np.nan, nan_ok=True)]


def test_mooncakes_rows_bring_their_prefix_blocks(tmp_path: Path) -> None:
    rows = [[0, 1030, 5, [0, 1, 2]], {"timestamp": 27, "input_length": 600, "output_length": 9}]
    rows[1]["hash_ids"] = [0, 7]  # type: ignore[call-overload]
    text = "\n".join(map(json.dumps, rows))
    requests = read_trace(write(tmp_path, text, "mooncake.jsonl"))
    assert requests.arrival_s.tolist() == [0.0, 0.027]
    assert requests.blocks == ((0, 1, 2), (0, 7))


@pytest.mark.parametrize(
    ("text", "told", "field"),
    [
        ("", "trace.csv is empty", None),
        ("time_s,prompt_tokens\n1,2\n", "line 1: no column answer_tokens", "answer_tokens"),
        ("time_s,prompt_tokens,answer_tokens\n", "holds no request", None),
        ("time_s,prompt_tokens,answer_tokens\n0,1,2\n1,many,2\n", "line 3: not a", "prompt_tokens"),
        ("time_s,prompt_tokens,answer_tokens\n0,1\n", "line 2: not a number", "answer_tokens"),
        ("time_s,prompt_tokens,answer_tokens\n0,1.5,2\n", "not a whole number", "prompt_tokens"),
        ("time_s,prompt_tokens,answer_tokens\n-1,1,2\n", "not from 0", "time_s"),
        ("time_s,prompt_tokens,answer_tokens\nnan,1,2\n", "not from 0", "time_s"),
        ("time_s,prompt_tokens,answer_tokens,difficulty\n0,1,2,3\n", "from 0 to 1", "difficulty"),
        ("time_s,prompt_tokens,answer_tokens\n2023-13-01 0:00,1,2\n", "not a date", "time_s"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_field(
    tmp_path: Path, text: str, told: str, field: str | None
) -> None:
    with pytest.raises(TraceError, match=told) as caught:
        read_trace(write(tmp_path, text))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.jsonl", b"[1,2]\n", "a.jsonl, line 1: not .timestamp_ms"),
        ("a.jsonl", b"[0,5,5,[1]]\n[1,true,5,[1]]\n", "line 2: not from 0"),
        ("a.csv", b"\xff\xfe", "not text"),
        ("a.csv.gz", b"no gzip", "damaged"),
        ("a.csv.gz", gzip.compress(AZURE.encode(), mtime=0)[:-9], "damaged"),
    ],
)
def test_damaged_files_are_told_apart(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TraceError, match=told):
        read_trace(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot read gone\.csv"):
        read_trace(tmp_path / "gone.csv")


def test_a_resampled_trace_keeps_the_course_of_the_rate_and_the_mix_of_lengths(
    tmp_path: Path,
) -> None:
    rows = [f"{second},{100 if second < 600 else 900},7" for second in range(0, 600, 2)]
    rows += [f"{second},900,7" for second in range(600, 1200)]
    text = "time_s,prompt_tokens,answer_tokens\n" + "\n".join(rows)
    trace = Trace(read_trace(write(tmp_path, text)))
    many = Resampled(trace.requests, 20.0)
    rng = np.random.default_rng(0)
    early, late = many.between(0, 600, rng), many.between(600, 1200, rng)
    assert len(early) == pytest.approx(20 * 300, rel=0.05)
    assert len(late) == pytest.approx(20 * 600, rel=0.05)
    assert set(early.prompt_tokens) == {100}
    assert set(late.prompt_tokens) == {900}
    assert (np.diff(late.arrival_s) >= 0).all()
    assert late.arrival_s[0] >= 600 > early.arrival_s[-1]


RATES = "client,t_s,rate_rps,cv,pattern,p1,p2\n"


def servegen(folder: Path, rates: str, lengths: str | None = None) -> Path:
    row = {"client": 3, "input_tokens": [10, 20, 30], "output_tokens": [1, 2, 3]}
    write(folder, json.dumps(row) if lengths is None else lengths, "x_lengths.jsonl")
    return write(folder, RATES + rates, "x_rates.csv")


def test_a_client_of_servegens_sends_as_many_requests_as_were_counted_in_bursts_of_its_own(
    tmp_path: Path,
) -> None:
    path = servegen(tmp_path, "3,0,2.0,1,Gamma,0.1,1\n3,600,4.0,1,Weibull,0.3,1\n")
    clients = read_servegen(path)
    assert (clients.hours, clients.mean_rps) == (pytest.approx(1 / 3), pytest.approx(3.0))
    first = clients.between(0, 600, np.random.default_rng(0))
    second = clients.between(600, 1200, np.random.default_rng(1))
    assert (len(first), len(second)) == (1200, 2400)
    assert first.arrival_s.min() >= 0
    assert first.arrival_s.max() < 600
    assert set(first.prompt_tokens) <= set(range(10, 31))
    for requests in (first, second):
        gaps = np.diff(requests.arrival_s)
        assert gaps.std() / gaps.mean() > 2


@pytest.mark.parametrize(
    ("rates", "lengths", "told"),
    [
        ("3,0,fast,1,Gamma,1,1\n", None, "x_rates.csv, line 2: not client"),
        ("3,0,1,1,Pareto,1,1\n", None, "line 2: not Gamma or Weibull"),
        ("3,0,1,1,Gamma,0,1\n", None, "line 2: a shape"),
        ("3,0,-1,1,Gamma,1,1\n", None, "line 2: not a number from 0"),
        ("", None, "holds no rate"),
        ("3,0,1,1,Gamma,1,1\n", '{"client": 3}', "x_lengths.jsonl, line 1"),
    ],
)
def test_what_is_wrong_with_servegens_files_is_told(
    tmp_path: Path, rates: str, lengths: str | None, told: str
) -> None:
    with pytest.raises(TraceError, match=told):
        read_servegen(servegen(tmp_path, rates, lengths))


def test_servegens_rates_need_their_lengths(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"needs y_lengths\.jsonl beside it"):
        read_servegen(write(tmp_path, RATES, "y_rates.csv"))
