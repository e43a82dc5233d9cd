"""The page's files: from this folder alone, under a policy that lets nothing else in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.edge.page import files
from isthmus.edge.page.libraries import CURE
from isthmus.edge.testing import ScriptedEngine, running_agent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_text("<!doctype html><title>Isthmus</title>")
    (web / "app.js").write_text("export const a = 1;")
    (tmp_path / "secret.js").write_text("not for the page")
    (web / "notes.py").write_text("no file of a page")
    monkeypatch.setattr(files, "FOLDER", web)
    monkeypatch.setattr(files, "missing", lambda into: ())
    return web


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_agent(ScriptedEngine(), **more) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as client,
    ):
        yield client


@pytest.mark.usefixtures("folder")
async def test_the_page_and_its_files_come_with_their_types_and_a_strict_policy() -> None:
    async with served() as client:
        index, script = await client.get("/"), await client.get("/ui/app.js")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        for told in (index, script):
            assert told.status_code == 200
            policy = told.headers["content-security-policy"]
            assert policy.startswith("default-src 'self'; ")
            assert "unsafe" not in policy
            assert "http" not in policy
            assert "frame-ancestors 'none'" in policy
            assert told.headers["x-content-type-options"] == "nosniff"
            assert told.headers["referrer-policy"] == "no-referrer"
        head = await client.head("/ui/app.js")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(script.content))


async def test_a_file_that_has_not_changed_is_not_sent_again(folder: Path) -> None:
    async with served() as client:
        etag = (await client.get("/ui/app.js")).headers["etag"]
        same = await client.get("/ui/app.js", headers={"if-none-match": etag})
        assert (same.status_code, same.content) == (304, b"")
        (folder / "app.js").write_text("export const a = 2;")
        changed = await client.get("/ui/app.js", headers={"if-none-match": etag})
        assert (changed.status_code, changed.text) == (200, "export const a = 2;")


@pytest.mark.usefixtures("folder")
async def test_nothing_else_is_served() -> None:
    others = ["../secret.js", "%2e%2e/secret.js", "..%2fsecret.js", "notes.py", "none.js", ""]
    async with served() as client:
        for path in others:
            assert (await client.get(f"/ui/{path}")).status_code == 404


async def test_an_agent_without_the_libraries_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "missing", lambda into: ("marked",))
    async with served() as client:
        told = await client.get("/")
        assert told.status_code == 503
        assert f"<code>{CURE}</code>" in told.text
        assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.usefixtures("folder")
async def test_a_token_guards_what_the_page_shows_but_not_the_page() -> None:
    async with served(token="sesame-open") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/ui/app.js")).status_code == 200
        assert (await client.post("/ui/app.js")).status_code == 401
        for path in ("/v1/isthmus/conversations", "/v1/isthmus/conversations/x"):
            assert (await client.get(path)).status_code == 401
            bearer = {"authorization": "Bearer sesame-open"}
            assert (await client.get(path, headers=bearer)).status_code in {200, 404}
        elsewhere = {"host": "evil.example"}
        assert (await client.get("/", headers=elsewhere)).status_code == 403
