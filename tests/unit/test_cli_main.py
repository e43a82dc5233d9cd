"""The program itself, before any command."""

from __future__ import annotations

from importlib import metadata

import pytest

from isthmus.cli.main import main


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "model", "list"]])
def test_the_version_is_all_that_it_prints(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert capsys.readouterr() == (f"{metadata.version('isthmus')}\n", "")
