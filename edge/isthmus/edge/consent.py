"""Whether anything may leave for the cloud at all: given explicitly, revoked at any time.

`isthmus privacy consent` keeps it in a file that a running agent looks at with each request. The
setting `privacy.consent` can give it too, and can forbid it; what was revoked in the file stays
revoked. Whether what came of requests is shared with the operator beyond what is billed is a second
consent of the same kind, and off unless given. A gateway that `isthmus up` starts itself, on this
machine and with the engine embedded, is not the cloud: nothing leaves the device, and no consent is
needed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.core.paths import home, write_whole

_SAYS = {"cloud", "share"}


def consent_path() -> Path:
    """Where the consent is kept."""
    return home() / "consent.json"


def keep_consent(
    granted: bool | None = None, path: Path | None = None, *, share: bool | None = None
) -> None:
    """Give a consent, or revoke it; None leaves it. Raises `ConfigError` when it cannot be kept."""
    path = path or consent_path()
    before = Consent(path=path)
    cloud = before.kept("cloud") if granted is None else granted
    shared = before.kept("share") if share is None else share
    given = {"cloud": cloud, "share": shared, "at_unix_s": round(time.time())}
    kept = json.dumps({name: value for name, value in given.items() if value is not None})
    try:
        # Whole or not at all: half a file would count as revoked.
        write_whole(path, f"{kept}\n".encode())
    except OSError as error:
        raise ConfigError(
            f"cannot keep the consent in {path} ({error.strerror}): make its folder writable, or "
            "set ISTHMUS_HOME to another",
            field="ISTHMUS_HOME",
        ) from None


class Consent:
    """The consent to the use of the cloud, and the one to sharing what came of requests."""

    def __init__(
        self,
        configured: bool | None = None,
        path: Path | None = None,
        *,
        share: bool | None = None,
        own_gateway: bool = False,
    ) -> None:
        """`configured` and `share`: what the settings say of each; None: nothing."""
        self._configured = configured
        self._share = share
        self._path = path or consent_path()
        self._own_gateway = own_gateway
        self._read: tuple[int, Mapping[str, object]] | None = None

    @property
    def granted(self) -> bool:
        """Whether the cloud may be used now."""
        if self._configured is False:
            return False
        if self._own_gateway:
            return True
        kept = self.kept("cloud")
        return self._configured is True if kept is None else kept

    @property
    def fixed_by(self) -> str | None:
        """What says whether the cloud may be used, whatever is kept; None: nothing does."""
        if self._configured is False:
            return "the setting privacy.consent"
        return "the gateway, which runs on this device" if self._own_gateway else None

    def keep(self, granted: bool) -> None:
        """Give the consent to the cloud, or revoke it. Raises `ConfigError`; blocking."""
        keep_consent(granted, self._path)

    @property
    def shares(self) -> bool:
        """Whether outcomes and the device's state go to the operator, beyond what is billed."""
        if not self.granted or self._share is False:
            return False
        if self._own_gateway:
            return True
        kept = self.kept("share")
        return self._share is True if kept is None else kept

    def kept(self, what: str) -> bool | None:
        """What the file says of a consent; None where it says nothing. One that cannot be read
        says no.
        """
        try:
            changed_ns = os.stat(self._path).st_mtime_ns
            if self._read is None or self._read[0] != changed_ns:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self._read = changed_ns, dict(kept)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return False
        said = self._read[1]
        # A file that says nothing at all is a damaged one.
        return said.get(what) is True if what in said or not _SAYS & said.keys() else None
