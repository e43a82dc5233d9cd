"""An agent that is killed in the middle of an answer keeps the question and nearly all of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import httpx
import pytest

from chaos_counts import count
from isthmus.cli.gateway_process import ended, start_module

pytestmark = pytest.mark.chaos

KILLS = count(3, 30)
WORD_S = 0.05
MOST_LOST = 2.0 / WORD_S
"""Words: an answer is stored every second, and a busy machine is late."""


def test_kills_at_random_moments_lose_no_question_and_little_of_an_answer(tmp_path: Path) -> None:
    chance = random.Random(5)
    environment = {"PYTHONPATH": str(Path(__file__).parent), "ISTHMUS_HOME": str(tmp_path)}
    parent, seen = None, []
    conversation = ""
    for kill in range(KILLS):
        child = start_module(tmp_path, "agent_program", [str(WORD_S)], environment=environment)
        with ended(child) as agent:
            url = agent.ready()["url"] + "/v1/isthmus/conversations"
            with httpx.Client(trust_env=False, timeout=30) as client:
                conversation = conversation or client.post(url, json={}).json()["id"]
                body = {"content": f"question {kill}", "parent": parent, "route": "only_on_device"}
                end_s = time.monotonic() + chance.uniform(0.5, 4.0)
                words = 0
                with client.stream("POST", f"{url}/{conversation}/turns", json=body) as told:
                    for line in told.iter_lines():
                        words += '"content":"word "' in line
                        if line.startswith('data: {"object":"isthmus.turn"'):
                            parent = json.loads(line.removeprefix("data: "))["assistant"]["id"]
                        if time.monotonic() > end_s:
                            agent.kill()
                            break
                seen.append(words)
    child = start_module(tmp_path, "agent_program", [], environment=environment)
    with ended(child) as agent:
        url = f"{agent.ready()['url']}/v1/isthmus/conversations/{conversation}"
        messages = httpx.get(url, trust_env=False).json()["messages"]
    questions, answers = messages[::2], messages[1::2]
    assert [one["content"] for one in questions] == [f"question {kill}" for kill in range(KILLS)]
    assert {one["status"] for one in answers} == {"failed"}
    assert {one["error"]["code"] for one in answers} == {"interrupted"}
    for answer, words in zip(answers, seen, strict=True):
        assert answer["content"].count("word ") > words - MOST_LOST
    assert any(answer["content"] for answer in answers)
