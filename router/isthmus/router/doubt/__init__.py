"""The device's own doubt: after prefill, while it writes, and of a whole answer."""
