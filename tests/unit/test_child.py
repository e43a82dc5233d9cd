"""The gateway's process that `isthmus up` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.child import Child
from isthmus.core.errors import ConfigError


def test_a_home_that_cannot_be_written_is_told_with_its_cure(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(ConfigError, match="ISTHMUS_HOME"):
        Child(("doctor",), environment={}, log_path=in_the_way / "home" / "gateway.log")
