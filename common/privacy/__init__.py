"""Parameters, update types, clipping, noise, randomness and the accountant: the vocabulary of differential privacy."""
