"""Privacy signals: GPC, TC strings, GPP strings, US Privacy. Pure decoders, and one verdict over all of them.

A signal can only take away: what it does not oppose still needs the person's own grant. Whatever cannot be decoded to
its last bit opposes everything. Nothing in this room stores, logs or repeats a raw string.
"""
