"""What a release is made with: its notes, its archives, and the pins of its workflows."""

from __future__ import annotations

import re
from pathlib import Path

import check_archives
import pytest
from release_notes import NotReady, notes

ROOT = Path(__file__).parents[2]
PROJECT = '[project]\nversion = "0.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [0.2.0] - 2026-11-22

### Added

- A bridge.

## [0.1.0] - 2026-10-01

- The first.
"""


def test_the_notes_of_a_version_are_its_section_alone() -> None:
    assert notes("0.2.0", CHANGELOG, PROJECT) == "### Added\n\n- A bridge.\n"
    first = PROJECT.replace("0.2.0", "0.1.0")
    assert notes("0.1.0", CHANGELOG, first) == "- The first.\n"


@pytest.mark.parametrize(
    ("version", "changed", "told"),
    [
        ("0.3.0", {}, r"pyproject.toml has version 0.2.0, not 0.3.0: tag v0.2.0, or set version"),
        (
            "0.2.0",
            {"[0.2.0]": "[0.2.1]"},
            r"no section of 0.2.0; CHANGELOG.md: write '## \[0.2.0\]",
        ),
        ("0.2.0", {"- A bridge.": ""}, r"section of 0.2.0 is empty; CHANGELOG.md: write"),
        ("0.2.0", {" - 2026-11-22": ""}, r"section of 0.2.0 has no date; CHANGELOG.md: write"),
        ("0.2.0", {"2026-11-22": "soon"}, r"section of 0.2.0 has no date; CHANGELOG.md: write"),
    ],
)
def test_a_version_that_is_not_ready_is_told_with_what_to_do(
    version: str, changed: dict[str, str], told: str
) -> None:
    changelog = CHANGELOG
    for old, new in changed.items():
        changelog = changelog.replace(old, new)
    with pytest.raises(NotReady, match=told):
        notes(version, changelog, PROJECT)


SDIST = {
    "LICENSE": b"Apache",
    "PKG-INFO": b"",
    "pyproject.toml": b"",
    "edge/build_backend.py": b"",
    "edge/isthmus/edge/page/package.json": b'{"dependencies": {"@scope/marked": "1"}}',
    "edge/isthmus/edge/page/package-lock.json": b"{}",
    "edge/isthmus/edge/page/web/index.html": b"",
    "edge/isthmus/edge/page/web/lib/scope-marked/LICENSE": b"MIT",
    "edge/isthmus/engine/sources/catalogue.toml": b"",
    "kernels/isthmus/kernels/cl/gemv.cl": b"",
    "kernels/native/cpu.cpp": b"",
    "router/isthmus/router/learned/shipped.router": b"",
}


def problems(files: dict[str, bytes]) -> list[str]:
    return check_archives.problems(files, wheel=False, machine=("/build/here/",))


def test_an_archive_with_all_that_it_needs_has_no_problems() -> None:
    assert problems(SDIST) == []


@pytest.mark.parametrize("lost", SDIST)
def test_an_archive_that_lacks_something_is_found(lost: str) -> None:
    assert problems({name: content for name, content in SDIST.items() if name != lost})


@pytest.mark.parametrize(
    "extra",
    [
        {"edge/tests/test_page.py": b""},
        {"edge/isthmus/edge/page/web/lib/marked/test/a.js": b""},
        {"node_modules/marked/LICENSE": b""},
        {"deploy/compose/.env": b""},
        {"kernels/note.py": b"# built in /build/here/kernels"},
    ],
)
def test_what_does_not_belong_in_an_archive_is_found(extra: dict[str, bytes]) -> None:
    (problem,) = problems({**SDIST, **extra})
    assert next(iter(extra)) in problem


def test_every_action_of_a_workflow_is_pinned_by_its_commit_with_the_version_beside_it() -> None:
    used = [
        line
        for path in (ROOT / ".github" / "workflows").iterdir()
        for line in re.findall(r"uses: (.*)", path.read_text())
    ]
    assert used
    pins = {line.partition("@")[0]: set[str]() for line in used}
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
        pins[line.partition("@")[0]].add(line)
    assert all(len(lines) == 1 for lines in pins.values())


def test_uv_publishes_in_the_version_that_wheels_are_checked_with() -> None:
    form = r"\buv==([\d.]+)"
    (publishes,) = re.findall(form, (ROOT / ".github/workflows/release.yml").read_text())
    (checks,) = re.findall(form, (ROOT / "scripts/requirements-release.txt").read_text())
    assert publishes == checks


def test_no_kernels_are_built_for_the_builders_own_processor() -> None:
    asked = re.findall(
        r"-m(?:arch|cpu|tune)=\S+", (ROOT / "kernels/native/CMakeLists.txt").read_text()
    )
    assert asked
    assert not [flag for flag in asked if "native" in flag]
