"""Federated rounds: inviting nodes, checking and adding their replies, stepping the model, keeping the checkpoint."""
