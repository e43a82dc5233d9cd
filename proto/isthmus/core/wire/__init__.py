"""Between core's values and the messages of `isthmus.v1`: the only part of core that knows both.

What only the device needs does not travel: the route mode (the choice has been made) and the
conversation's name (it may be the user's own words). Reading checks form (`InvalidRequest` names
the field); ranges are the receiver's to check, since they depend on what it serves.
"""

from isthmus.core.wire.errors import (
    CODE_OF_KIND,
    error_from_status,
    error_from_wire,
    error_to_status,
    error_to_wire,
)
from isthmus.core.wire.events import EventReader, event_to_wire
from isthmus.core.wire.outcomes import (
    acknowledgement_to_wire,
    outcome_from_wire,
    outcome_to_wire,
    usage_from_wire,
)
from isthmus.core.wire.requests import (
    request_as_bytes,
    request_as_json,
    request_body,
    request_from_wire,
    request_to_wire,
)
from isthmus.core.wire.tier import info_from_wire, info_to_wire, load_from_wire, load_to_wire

__all__ = [
    "CODE_OF_KIND",
    "EventReader",
    "acknowledgement_to_wire",
    "error_from_status",
    "error_from_wire",
    "error_to_status",
    "error_to_wire",
    "event_to_wire",
    "info_from_wire",
    "info_to_wire",
    "load_from_wire",
    "load_to_wire",
    "outcome_from_wire",
    "outcome_to_wire",
    "request_as_bytes",
    "request_as_json",
    "request_body",
    "request_from_wire",
    "request_to_wire",
    "usage_from_wire",
]
