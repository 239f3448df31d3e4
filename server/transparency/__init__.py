"""The transparency log of this installation, and the keys it has published."""
