"""An operator at the command line, beside a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isthmus.cloud.fleet.store import FleetStore
from isthmus.cloud.ledger.database import make_engine, sqlite_url
from program import run


class Operator:
    """Runs `isthmus cloud fleet` on the gateway's database in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "operator.pem"
        self._config = folder / "gateway.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(f'[ledger]\npath = "{self.database}"\n')
        store = FleetStore(make_engine(sqlite_url(self.database)))
        store.open()  # as a gateway does when it starts
        store.close()
        self.run("key", str(self.key))

    @property
    def database(self) -> Path:
        """The gateway's."""
        return self.folder / "ledger.db"

    @property
    def public(self) -> Path:
        """What devices pin."""
        return self.folder / "operator.pem.pub"

    def run(self, *arguments: str) -> Any:
        """What the command says with --json. Raises `AssertionError` when it fails."""
        where = [] if arguments[0] == "key" else ["--config", str(self._config)]
        ran = run("cloud", "fleet", *arguments, *where, "--json")
        assert ran.exit_code == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    def publish(self, policy: str, *flags: str) -> int:
        """A bundle with this table `router`; its sequence."""
        path = self.folder / "policy.toml"
        path.write_text(f"[router]\n{policy}\n")
        told = self.run(
            "publish", "--key", str(self.key), "--version", "v", "--policy", str(path), *flags
        )
        return int(told["sequence"])

    def rollback(self, *flags: str) -> int:
        """A roll-back; its sequence."""
        return int(self.run("rollback", "--key", str(self.key), *flags)["sequence"])

    def bundle(self, sequence: int) -> dict[str, Any]:
        """What `status` tells of a bundle."""
        (found,) = [b for b in self.run("status")["bundles"] if b["sequence"] == sequence]
        return dict(found)
