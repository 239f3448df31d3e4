"""The transparency log's mathematics: Merkle tree, proofs, leaves, checkpoints, verification. Pure functions."""
