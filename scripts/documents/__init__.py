"""The documentation site: what of it is written, and what is checked."""
