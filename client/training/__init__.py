"""Local training on one device: DP-SGD, the trainer of a round, and the contribution that may leave."""
