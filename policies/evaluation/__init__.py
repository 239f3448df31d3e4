"""Off-policy evaluation: what a placement policy would have earned, judged on the log of another one. Pure."""
