"""The device as one of a fleet: outcomes go out by a spool, signed bundles come in."""
