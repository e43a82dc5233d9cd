"""The scanner of everything that is installed: our detectors, the models, a user's patterns."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.privacy.base import Detector
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.names import installed_names
from isthmus.privacy.scanner import Scanner


def installed_scanner(more: Sequence[Detector] = (), *, models: bool = True) -> Scanner:
    """A scanner with every detector at hand and `more`; it says what it is blind to.

    `models=False` leaves out those that need a model, which take about a second to load: the
    scanner is then as blind to names as if none were installed.
    """
    names, blind = installed_names(models)
    return Scanner((*STRUCTURED, *more, *names), blind)
