"""What a shell block of the documentation asks for, looked up in the program."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import typer

from doc_blocks import ROOT
from isthmus.cli.main import build
from isthmus.cloud.config import CloudConfig
from isthmus.core.settings import Settings
from isthmus.edge.config import EdgeConfig

SERVERS = frozenset({("up",), ("edge", "serve"), ("cloud", "serve")})
"""Commands of `isthmus` that run until somebody stops them."""

_OTHERS = frozenset(
    re.findall(
        r"\S+",
        "amtool apt-get cat cd cp curl docker echo git grep helm install kubectl mkdir pkg "
        "prometheus promtool proot-distro python python3 scp sed sudo systemctl systemd-run tee "
        "vllm",
    )
)
"""Programs of others that a block may name; what they do is checked by running them, or by who
has what the block needs."""
_SETTINGS: dict[str, type[Settings]] = {"ISTHMUS_CLOUD_": CloudConfig, "ISTHMUS_EDGE_": EdgeConfig}
_VARIABLES = frozenset({"ISTHMUS_HOME", "ISTHMUS_OPENCL_LIMITS", "ISTHMUS_SOAK"})

_PUNCTUATION = "();<>|&\n"
_REDIRECTIONS = frozenset({"<", ">", ">>", ">&", "&>"})
_COMMENT = re.compile(r"""(?P<quoted>'[^']*'|"(?:[^"\\]|\\.)*")|(?:^|(?<=\s))\#[^\n]*""", re.M)
"""A comment, or a quoted text, which may hold what looks like one."""


class Wrong(Exception):
    """A command that the program, or the repository, does not have."""


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script, in words, without comments and redirections."""
    joined = re.sub(r"\\\n\s*", " ", script)
    plain = _COMMENT.sub(lambda found: found["quoted"] or "", joined)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace = " \t\r"
    lexer.commenters = ""
    lexer.whitespace_split = True
    for ends, words in groupby(lexer, _ends):
        if not ends:
            yield from _without_redirections(list(words))


def _ends(word: str) -> bool:
    return set(word) <= set(_PUNCTUATION) and word not in _REDIRECTIONS


def _without_redirections(words: list[str]) -> Iterator[list[str]]:
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _REDIRECTIONS:
            if kept and kept[-1] in {"1", "2"}:
                kept.pop()
            next(rest, None)
        else:
            kept.append(word)
    if kept:
        yield kept


def check_script(script: str) -> list[tuple[str, ...]]:
    """Check each command; return the words of each of `isthmus`'s. Raises `Wrong`."""
    parsed = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )
    if parsed.returncode:
        raise Wrong(parsed.stderr.strip())
    ours = []
    for words in commands(script):
        while words and re.match(r"\w+=", words[0]):
            _check_variable(words.pop(0).split("=")[0])
        if not words:
            continue
        program = words[0].rsplit("/", 1)[-1]
        if program == "isthmus":
            _check_ours(words[1:])
            ours.append(tuple(words[1:]))
        elif program == "make":
            _check_targets(words[1:])
        elif program == "pip":
            _check_packages(words[1:])
        elif program == "export":
            _check_variable(words[1].split("=")[0])
        elif program not in _OTHERS:
            raise Wrong(f"{program} is no program that the documentation may ask for")
        for word in words[1:]:
            _check_file(word)
    return ours


def is_server(words: tuple[str, ...]) -> bool:
    """Whether a command of `isthmus` runs until it is stopped."""
    return words[:1] in SERVERS or words[:2] in SERVERS


def _check_ours(words: list[str]) -> None:
    try:
        _parse(words)
    except Exception as error:
        # Options are read before their values: only a file is missing, which the reader has.
        if re.search(r"(file|directory|path) .* does not exist", str(error), flags=re.I):
            return
        # Typer's own classes live in a private module; whatever it is, the words are wrong.
        raise Wrong(f"isthmus {shlex.join(words)}: {error}") from None


def _parse(words: list[str]) -> None:
    command: Any = _program(next((word for word in words if not word.startswith("-")), None))
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if (name := rest.pop(0)) not in command.commands:
            raise LookupError(f"no command {name!r}")
        command = command.commands[name]
    if rest in (["--help"], ["--version"]):
        return
    command.make_context(command.name, rest)


@cache
def _program(wanted: str | None) -> Any:
    return typer.main.get_command(build(wanted))


def _check_variable(name: str) -> None:
    if not name.startswith("ISTHMUS_") or name in _VARIABLES:
        return
    prefix = next((prefix for prefix in _SETTINGS if name.startswith(prefix)), None)
    fields: Any = _SETTINGS[prefix].model_fields if prefix else {}
    for part in name.removeprefix(prefix or "").lower().split("__"):
        if part not in fields:
            raise Wrong(f"the variable {name} sets nothing")
        fields = getattr(fields[part].annotation, "model_fields", {})


def _check_targets(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words:
        if not re.search(rf"^{re.escape(target)}:", makefile, flags=re.M):
            raise Wrong(f"make has no target {target}")


def _check_packages(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"])
    for extras in re.findall(r"(?:isthmus|\.)\[([\w,-]+)\]", " ".join(words)):
        if unknown := set(extras.split(",")) - known:
            raise Wrong(f"the package has no extra {', '.join(sorted(unknown))}")


def _check_file(word: str) -> None:
    first = word.split("/", maxsplit=1)[0]
    ours = first in {"deploy", "scripts", "tests", "docs", "edge", "router", "cloud", "kernels"}
    if ours and "/" in word and not (ROOT / word).exists() and not word.endswith(".env"):
        raise Wrong(f"the repository has no {word}")
