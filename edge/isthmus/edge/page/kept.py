"""What the page keeps from one start of the agent to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from isthmus.core.paths import home
from isthmus.edge.choices import choices_path
from isthmus.edge.page.store import Store


@dataclass(frozen=True, slots=True)
class Kept:
    """Conversations and choices. As it stands: in memory, and gone with the process."""

    store: Store = field(default_factory=Store)
    choices: Path | None = None
    """The file of `isthmus.edge.choices`."""

    @classmethod
    def at_home(cls) -> Kept:
        """Below ISTHMUS_HOME."""
        return cls(Store(home() / "conversations.db"), choices_path())
