"""``reticent policy``: judge placement policies on decision logs, check their documents."""
