"""``reticent audit``: tries to falsify the privacy claim on the code that trains, and says what it would have seen."""
