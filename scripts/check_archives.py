"""What a release's archives hold: `python scripts/check_archives.py dist/*`.

An sdist and a wheel have the licence, the web libraries of the agent's page with their licences,
the data that is read at run time, and no tests, secrets or paths of the machine that built them.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PAGE = "isthmus/edge/page"
_NEEDED = (
    rf".*{_PAGE}/web/index\.html",
    rf".*{_PAGE}/package\.json",
    rf".*{_PAGE}/package-lock\.json",
    r".*isthmus/kernels/cl/.*\.cl",
    r".*isthmus/engine/sources/catalogue\.toml",
    r".*isthmus/router/learned/shipped\.router",
)
_OF_SDIST = (
    r"LICENSE",
    r"pyproject\.toml",
    r"PKG-INFO",
    r"edge/build_backend\.py",
    r"kernels/native/\w+\.cpp",
)
_OF_WHEEL = (
    r"[^/]+\.dist-info/licenses/LICENSE",
    r"isthmus/kernels/_native\..*\.so",
    r"isthmus/cloud/ledger/migrations/.*\.py",
)
_FOREIGN = r"(.*/)?(tests?|node_modules|__pycache__|\.git|\.venv[^/]*)/.*|.*\.(env|pem|key|db|gguf)"


def members(archive: Path) -> dict[str, bytes]:
    """The files of an sdist, without its first folder, or of a wheel."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if name[-1] != "/"}
    with tarfile.open(archive) as sdist:
        files = [(member, sdist.extractfile(member)) for member in sdist if member.isfile()]
        return {member.name.partition("/")[2]: file.read() for member, file in files if file}


def problems(files: dict[str, bytes], *, wheel: bool, machine: tuple[str, ...]) -> list[str]:
    """What is wrong with an archive's files; `machine` are paths that may not be in any."""
    needed = [*_NEEDED, *(_OF_WHEEL if wheel else _OF_SDIST)]
    found = [
        f"nothing in it is called {form}"
        for form in needed
        if not any(re.fullmatch(form, name) for name in files)
    ]
    page = next((files[name] for name in files if name.endswith("page/package.json")), b"{}")
    for library in json.loads(page).get("dependencies", {}):
        licence = f"{_PAGE}/web/lib/{library.removeprefix('@').replace('/', '-')}/LICENSE"
        if not any(name.endswith(licence) for name in files):
            found.append(f"the page's library {library} is not in it with its licence")
    found += [f"{name} does not belong in it" for name in files if re.fullmatch(_FOREIGN, name)]
    for name, content in files.items():
        found += [f"{name} names {path}" for path in machine if path.encode() in content]
    return found


def main(arguments: list[str]) -> int:
    """Look into each; 0 when there is nothing to say."""
    if not arguments:
        sys.stderr.write("usage: check_archives.py ARCHIVE...\n")
        return 2
    machine = (f"{ROOT}/", f"{Path.home()}/")
    failed = False
    for argument in arguments:
        archive = Path(argument)
        files = members(archive)
        found = problems(files, wheel=archive.suffix == ".whl", machine=machine)
        sys.stderr.write(f"{archive.name}: {len(files)} files, {len(found)} problems\n")
        sys.stderr.writelines(f"  {problem}\n" for problem in found)
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
