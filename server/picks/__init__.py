"""Private picks at the service: the public lists of candidates, and the mirror of what picks have cost."""
