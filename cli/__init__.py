"""The `reticent` command: the only place that knows both sides."""
