"""The ledger's settings: where it is kept, and how long anybody waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from isthmus.cloud.ledger.database import parse_url, sqlite_url
from isthmus.core.errors import ConfigError
from isthmus.core.paths import home


class LedgerConfig(BaseModel):
    """Where usage is written down."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["sqlite", "postgresql", "off"] = "sqlite"
    """`sqlite`: a file, for one gateway; `postgresql`: shared by several; `off`: forgotten at the
    end, and no quotas."""
    path: Path | None = None
    """The SQLite file; left out: `gateway/ledger.db` in the state folder (ISTHMUS_HOME)."""
    dsn: SecretStr | None = None
    """`postgresql://user:password@host/name`. Never shown."""
    dsn_file: Path | None = None
    """A file that holds it, instead of `dsn`."""
    when_away: Literal["refuse", "serve"] = "refuse"
    """What becomes of requests while the database is away: they are refused, and devices answer by
    themselves; or they are served without quotas, noted in a file and brought in later."""
    late_dir: Path | None = None
    """The folder of that file; left out: `gateway` in the state folder."""
    keep_days: int = Field(default=400, ge=62, le=36_500)
    """How many days requests are kept one by one; older ones are kept as sums by device, model and
    day. Longer than a quota's month and than any device keeps its acknowledgements."""
    wait_s: float = Field(default=2.0, gt=0, le=60)
    """How long a request waits for a database that is away before it is refused."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "postgresql":
            if (self.dsn is None) == (self.dsn_file is None):
                raise ValueError("postgresql needs dsn or dsn_file, one of them")
        elif self.dsn is not None or self.dsn_file is not None:
            raise ValueError('dsn and dsn_file belong to kind = "postgresql"')
        if self.kind != "sqlite" and self.path is not None:
            raise ValueError('path belongs to kind = "sqlite"')
        if self.when_away == "refuse" and self.late_dir is not None:
            raise ValueError('late_dir belongs to when_away = "serve"')
        return self

    @property
    def late_folder(self) -> Path | None:
        """Where what was served meanwhile is noted; None where nothing is."""
        if self.when_away == "refuse" or self.kind == "off":
            return None
        return self.late_dir or home() / "gateway"

    def url(self) -> sa.URL:
        """The database's URL. Raises `ConfigError`; the error never shows it."""
        if self.kind == "sqlite":
            return sqlite_url(self.path or home() / "gateway" / "ledger.db")
        dsn = "" if self.dsn is None else self.dsn.get_secret_value()
        if self.dsn_file is not None:
            try:
                dsn = self.dsn_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"ledger.dsn_file cannot be read ({type(error).__name__})",
                    field="ledger.dsn_file",
                ) from None
        return parse_url(dsn)

    def existing_url(self) -> sa.URL:
        """`url` of a database that a gateway has made. Raises `ConfigError` where there is none."""
        if self.kind == "off":
            raise ConfigError('ledger.kind is "off": nothing is kept', field="ledger.kind")
        url = self.url()
        if self.kind == "sqlite" and not Path(url.database or "").exists():
            raise ConfigError(
                f"there is no ledger at {url.database}; a gateway makes it when it first starts "
                "(--config names its file, and ISTHMUS_HOME moves it)",
                field="ledger.path",
            )
        return url
