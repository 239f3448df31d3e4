"""Requests of data subjects: who asks for what, until when it is due, what was done, and what remains."""
