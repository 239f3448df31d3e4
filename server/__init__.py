"""The server: sees masked sums, campaigns and receipts, never an event."""
