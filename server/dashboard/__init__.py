"""The privacy officer's desk: server-rendered pages over the other rooms' services; no script, no asset of others."""
