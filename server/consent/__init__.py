"""Subjects, notices and consent: who agreed to what, under which text, until when."""
