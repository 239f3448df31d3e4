"""Experiments on placements: who is in which arm, what their results say, what should follow. Pure."""
