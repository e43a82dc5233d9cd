"""Reads model files by path, one a line of stdin, in little memory: what fuzzing talks to.

Each answer is `whole`, or the refusal as `Kind: message`. What is not a refusal of ours ends the
program with a traceback, and so does an allocation beyond the limit.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from isthmus.core.errors import IsthmusError
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.prepared import pack_model
from isthmus.engine.tokens.tokenizer import Tokenizer
from isthmus.kernels.numpy_ref import NumpyBackend

ROOM_BYTES = 256 << 20


def main() -> None:
    # What is mapped already (libraries, their threads' stacks) and some room.
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            loaded = pack_model(read_gguf(Path(line.strip())), NumpyBackend())
            Tokenizer(loaded.tokenizer).encode("a text")
            answer = "whole"
        except IsthmusError as error:
            answer = f"{type(error).__name__}: {error.message}"
        sys.stdout.write(repr(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
