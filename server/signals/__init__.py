"""Privacy signals over HTTP: what a request carries, what it opposes here, and what is published about GPC."""
