"""Experiments, changes that two people agree on, and which placement policy is in force."""
