"""`isthmus chat` and `isthmus doctor` as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from isthmus.core.errors import Unavailable
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent


async def isthmus(
    *arguments: str, said: str | bytes = "", home: Path | None = None
) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "isthmus.cli.main",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **({"ISTHMUS_HOME": str(home)} if home else {})},
    )
    out, err = await process.communicate(said.encode() if isinstance(said, str) else said)
    return process.returncode or 0, out.decode(), err.decode()


async def test_piped_lines_are_one_conversation_and_each_answer_says_where_it_was_made() -> None:
    engine = ScriptedEngine(prompt_tokens=20, cached_tokens=15)
    async with running_agent(engine) as agent:
        status, out, err = await isthmus("chat", "--url", agent.url, said="Hi\n\nAnd now?\n")
    assert status == 0
    assert out == "Hello there.\nHello there.\n"
    assert err.count("edge (cloud_offline) · scripted on scripted") == 2
    assert "5 new + 15 cached prompt tokens" in err
    assert [m.text for m in engine.requests[1].messages] == ["Hi", "Hello there.", "And now?"]


async def test_bytes_that_are_no_text_reach_the_agent_as_replacement_characters() -> None:
    engine = ScriptedEngine()
    async with running_agent(engine) as agent:
        status, out, err = await isthmus("chat", "--url", agent.url, said=b"caf\xe9?\n")
    assert (status, out) == (0, "Hello there.\n")
    assert "Traceback" not in err
    assert engine.requests[0].messages[0].text == "caf\ufffd?"


async def test_the_chosen_model_forces_the_tier() -> None:
    cloud = ScriptedTier(("From above",), same_model_demo=True)
    async with running_agent(cloud=cloud) as agent:
        status, out, err = await isthmus(
            "chat", "--url", agent.url, "--model", "isthmus-cloud", said="Hi\n"
        )
    assert (status, out) == (0, "From above\n")
    assert "cloud (forced_cloud)" in err
    assert "same-model demo" in err


async def test_an_error_in_mid_answer_is_told_and_fails_the_command() -> None:
    engine = ScriptedEngine(("Half",), error=Unavailable("the engine [1] is closed"))
    async with running_agent(engine) as agent:
        status, out, err = await isthmus("chat", "--url", agent.url, said="Hi\n")
    assert (status, out) == (1, "Half\n")
    assert "the engine [1] is closed" in err


async def test_without_an_agent_it_says_how_to_start_one() -> None:
    status, _, err = await isthmus("chat", "--url", "http://127.0.0.1:9", said="Hi\n")
    assert status == 1
    assert "isthmus up" in err
    assert "Traceback" not in err


async def test_a_url_without_a_scheme_is_misuse() -> None:
    status, _, err = await isthmus("chat", "--url", "localhost:8080", said="Hi\n")
    assert status == 2
    assert "http://" in err


async def test_the_doctor_names_the_missing_model_and_its_cure(tmp_path: Path) -> None:
    status, out, _ = await isthmus(
        "doctor", "--gateway", "127.0.0.1:9", "--json", home=tmp_path / "none"
    )
    found = json.loads(out.splitlines()[-1])
    assert status == 1
    assert found["ready"] is False
    assert found["next"] == "isthmus model pull smollm2-135m"
    by_name = {check["name"]: check for check in found["checks"]}
    assert not by_name["model"]["ok"]
    assert by_name["backend numpy"]["ok"]
    assert by_name["gateway"]["cure"].startswith("isthmus up")
    assert not (tmp_path / "none").exists()


async def test_the_doctor_ends_with_ready_when_all_that_is_needed_is_there(
    model_path: Path, tmp_path: Path
) -> None:
    status, out, _ = await isthmus(
        "doctor", "--model", str(model_path), "--gateway", "127.0.0.1:9", home=tmp_path
    )
    assert status == 0
    assert out.rstrip().endswith("ready")
    assert str(model_path) in out
