"""Random and hostile HTTP bodies on an agent in a process of its own, by its own OpenAPI page.

Schemathesis makes bodies that the page allows and bodies that it does not; of each, others are made
by putting a hostile value in the place of one of its own, or by changing its bytes. Each gets an
answer that the page announces: no 5xx but 503.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chaos_counts import SOAK, count
from isthmus.cli.gateway_process import Served, ended, start_module

pytestmark = pytest.mark.chaos

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
JSON = {"content-type": "application/json"}
CONVERSATION = "/v1/isthmus/conversations/{conversation}"
TURNS = f"{CONVERSATION}/turns"
RATING = "/v1/isthmus/messages/{message}/rating"
BODIES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/isthmus/preview"),
    ("POST", "/v1/feedback"),
    ("POST", "/v1/isthmus/conversations"),
    ("PATCH", CONVERSATION),
    ("POST", TURNS),
    ("POST", RATING),
    ("PATCH", "/v1/isthmus/settings"),
]
PATIENCE_S = 90.0
"""A hang is one after any time; a busy machine is none."""
RESTED_S = 20.0
"""The agent closes a connection that has rested 30 s, perhaps just as the next body is sent."""
AT_ONCE = 10
OTHERS = 19
"""Made of each body: schemathesis takes many times as long to make one as the agent to answer."""
HOSTILE: list[Any] = [
    *(None, True, 0, -1, 0.5, 1e308, 2**31, 2**63, -(2**63), 10**400, float("nan"), float("inf")),
    *("", " ", "\x00", "\ud800", "\u202e", "a" * 70_000, "[" * 2_000, "data:,", "../../etc/passwd"),
    *([], {}, [[]], {"": {}}, [None] * 3, {"type": "text"}, {"role": "tool"}, {"$ref": "#"}),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder in a JSON value with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_:
        holder = open_.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys if isinstance(holder, dict | list) else ():
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                open_.append(holder[key])
    return found


def other(body: bytes, chance: random.Random) -> bytes:
    """Something near `body`: one value of it replaced, or some of its bytes."""
    if chance.random() < 0.5:
        with contextlib.suppress(ValueError):
            whole = [json.loads(body)]
            holder, key = chance.choice(places(whole))
            holder[key] = chance.choice(HOSTILE)
            return json.dumps(whole[0]).encode()
    data = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 2):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case _:
                data[at:at] = data[at : at + chance.randint(1, 50)]
    return bytes(data)


def fuzz(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        derandomize=not SOAK,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    folder: Path = tmp_path_factory.mktemp("agent")
    environment = {"PYTHONPATH": str(Path(__file__).parent), "ISTHMUS_HOME": str(folder)}
    with ended(start_module(folder, "agent_program", [], environment=environment)) as served:
        yield served, served.ready()["url"]


@pytest.fixture(scope="module")
def page(agent: tuple[Served, str]) -> Any:
    told = httpx.get(f"{agent[1]}/openapi.json", trust_env=False)
    assert told.status_code == 200
    return schemathesis.openapi.from_dict(told.json())


def begun(url: str) -> dict[str, str]:
    """A conversation of one turn, and its answer."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        conversation = client.post("/v1/isthmus/conversations", json={}).json()["id"]
        client.post(TURNS.format(conversation=conversation), json={"content": "Hello"})
        messages = client.get(CONVERSATION.format(conversation=conversation)).json()["messages"]
    return {"conversation": conversation, "message": messages[-1]["id"]}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), BODIES)
def test_no_body_brings_the_agent_down_or_gets_what_the_page_does_not_announce(
    agent: tuple[Served, str], page: Any, method: str, path: str, mode: GenerationMode
) -> None:
    served, url = agent
    statuses: set[int] = set()
    named = {name: made for name, made in begun(url).items() if f"{{{name}}}" in path}
    with requests.Session() as session, ThreadPoolExecutor(AT_ONCE) as at_once:
        session.trust_env = False
        answered_s = time.monotonic()

        def look(case: Any, call: Callable[[], requests.Response]) -> requests.Response:
            nonlocal answered_s
            try:
                response = call()
            except requests.ConnectionError:
                if time.monotonic() - answered_s < RESTED_S:
                    raise
                response = call()
            answered_s = time.monotonic()
            case.validate_response(response, checks=CHECKS)
            assert response.status_code < 500 or response.status_code == 503
            statuses.add(response.status_code)
            return response

        @fuzz(count(100, 3_500) // (1 + OTHERS))
        @given(
            case=page[path][method].as_strategy(generation_mode=mode), seed=st.integers(0, 2**64)
        )
        def one(case: Any, seed: int) -> None:
            chance = random.Random(seed)
            case.path_parameters = named
            first = look(case, lambda: case.call(base_url=url, session=session, timeout=PATIENCE_S))
            body = first.request.body or b""
            where = url + path.format(**named)
            send = functools.partial(
                session.request, method, where, headers=JSON, timeout=PATIENCE_S
            )
            body = body if isinstance(body, bytes) else body.encode()
            calls = [functools.partial(send, data=other(body, chance)) for _ in range(OTHERS)]
            list(at_once.map(functools.partial(look, case), calls))

        one()
        warm_mb = served.rss_mb
        one()
    assert served.running
    assert served.rss_mb < 1.1 * warm_mb
    assert 400 in statuses or mode is GenerationMode.POSITIVE
    if mode is GenerationMode.POSITIVE and path != "/v1/feedback":
        assert statuses & {200, 201}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/isthmus/conversations",
        "/v1/isthmus/live",
        "/v1/isthmus/settings",
    ],
)
def test_what_is_read_is_what_the_page_announces(
    agent: tuple[Served, str], page: Any, path: str
) -> None:
    case = page[path]["GET"].Case()
    with requests.Session() as session:
        session.trust_env = False
        response = case.call(base_url=agent[1], session=session, timeout=PATIENCE_S)
    case.validate_response(response, checks=CHECKS)
    assert response.status_code == 200
