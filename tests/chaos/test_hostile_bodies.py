"""Random and hostile HTTP bodies on an agent in a process of its own, by its own OpenAPI page.

Schemathesis makes bodies that the page allows and bodies that it does not. Each gets an answer that
the page announces: no 5xx but 503, and 504 for a deadline that the body itself set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
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
BODIES = ["/v1/chat/completions", "/v1/isthmus/preview", "/v1/feedback"]


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


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", BODIES)
def test_no_body_brings_the_agent_down_or_gets_what_the_page_does_not_announce(
    agent: tuple[Served, str], page: Any, path: str, mode: GenerationMode
) -> None:
    served, url = agent
    statuses: set[int] = set()
    with requests.Session() as session:
        session.trust_env = False

        @fuzz(count(40, 3_500))
        @given(case=page[path]["POST"].as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            response = case.call(base_url=url, session=session, timeout=20)
            case.validate_response(response, checks=CHECKS)
            assert response.status_code < 500 or response.status_code in {503, 504}
            statuses.add(response.status_code)

        one()
        warm_mb = served.rss_mb
        one()
    assert served.running
    assert served.rss_mb < 1.1 * warm_mb
    assert 400 in statuses or mode is GenerationMode.POSITIVE
    if mode is GenerationMode.POSITIVE and path != "/v1/feedback":
        assert 200 in statuses


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_what_is_read_is_what_the_page_announces(
    agent: tuple[Served, str], page: Any, path: str
) -> None:
    case = page[path]["GET"].Case()
    with requests.Session() as session:
        session.trust_env = False
        response = case.call(base_url=agent[1], session=session, timeout=20)
    case.validate_response(response, checks=CHECKS)
    assert response.status_code == 200
