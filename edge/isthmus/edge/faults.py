"""Turning an unexpected exception into an error of ours, without its message."""

from __future__ import annotations

import logging

from isthmus.core.errors import InternalError

log = logging.getLogger(__name__)


def fault(error: Exception, where: str) -> InternalError:
    """Log the class and the place of `error` and return the error to raise in its stead.

    The message of a foreign exception may hold a user's text: it is neither logged nor passed on.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "an unknown place"
    if frame is not None:
        code = frame.tb_frame.f_code
        place = f"{code.co_filename}:{frame.tb_lineno} ({code.co_qualname})"
    log.error("%s failed with %s at %s", where, type(error).__name__, place)
    return InternalError(f"a fault in {where} ({type(error).__name__}); the log says where")
