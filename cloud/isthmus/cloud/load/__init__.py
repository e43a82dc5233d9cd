"""Load and faults for a gateway: arrivals, targets, what came back, and a proxy that misbehaves."""
