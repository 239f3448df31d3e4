"""The model registry: every accepted model, signed."""
