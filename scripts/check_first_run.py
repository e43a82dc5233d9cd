"""What a new user does, with the program of an environment and an empty home.

`python scripts/check_first_run.py VENV HOME`: asks the doctor, does the one thing that it names
until it says ready, starts the agent, asks one question and opens the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

_LIMIT_S = 120
_QUESTION = {
    "model": "isthmus",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 16,
    "temperature": 0,
}


class Failed(Exception):
    """What a new user would have met."""


def doctor(program: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What `isthmus doctor --json` finds."""
    ended = subprocess.run(
        [program, "doctor", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    if not ended.stdout:
        raise Failed(f"isthmus doctor said nothing:\n{ended.stderr}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if ended.returncode != int(not found["ready"]):
        raise Failed(f"isthmus doctor ended with {ended.returncode}: {found}")
    return found


def make_ready(program: Path, environment: dict[str, str]) -> None:
    """Do what the doctor names, a command of ours at a time, until nothing is left."""
    done: list[str] = []
    while not (found := doctor(program, environment))["ready"]:
        cure = str(found["next"])
        print(f"next: {cure}", flush=True)
        if cure in done or not cure.startswith("isthmus "):
            raise Failed(f"the doctor's cure does not lead to ready: {found}")
        done.append(cure)
        subprocess.run([program, *shlex.split(cure)[1:]], env=environment, check=True)
    print("ready", flush=True)


def ask(url: str) -> str:
    """One answer."""
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(_QUESTION).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def use(program: Path, environment: dict[str, str], log: Path) -> None:
    """Start the agent on a free port, use it, and stop it as Ctrl-C does."""
    command = [str(program), "edge", "serve", "--listen", "127.0.0.1:0"]
    with log.open("w") as errors:
        agent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            assert agent.stderr is not None  # It is a pipe.
            url = ""
            for line in agent.stderr:
                errors.write(line)
                told = re.search(r"agent: (http://\S+)/v1 ", line)
                url = told[1] if told else url
                if line.startswith("ready: "):
                    break
            else:
                raise Failed(f"the agent ended: {log}")
            answer = ask(url)
            print(f"the answer: {answer!r}", flush=True)
            if "Paris" not in answer:
                raise Failed("the small model knows the capital of France")
            with urllib.request.urlopen(url, timeout=_LIMIT_S) as response:
                page = response.read().decode()
            for path in re.findall(r'(?:src|href)="(/ui/[^"]+)"', page) or ["/no/files"]:
                urllib.request.urlopen(f"{url}{path}", timeout=_LIMIT_S).close()
            print(f"the page: {len(page)} characters, and every file that it names", flush=True)
        finally:
            agent.send_signal(signal.SIGINT)
            try:
                agent.communicate(timeout=_LIMIT_S)
            except subprocess.TimeoutExpired:
                agent.kill()
    if agent.returncode:
        raise Failed(f"the agent ended with {agent.returncode}")


def main(arguments: list[str]) -> int:
    """0 when all went well."""
    if len(arguments) != 2:
        sys.stderr.write("usage: check_first_run.py VENV HOME\n")
        return 2
    program, home = Path(arguments[0]) / "bin" / "isthmus", Path(arguments[1])
    own = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_")}
    environment = own | {"ISTHMUS_HOME": str(home), "no_proxy": "127.0.0.1"}
    try:
        make_ready(program, environment)
        use(program, environment, home / "agent.log")
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"check_first_run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
