"""The server's own privacy ledger: what it has let each device identity release."""
