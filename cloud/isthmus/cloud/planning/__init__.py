"""Capacity from first principles: what a model needs of a GPU, and how fast it can be at best."""
