"""Cryptographic recipes, each with a version in its bytes. The sole importer of ``cryptography``'s hazmat layer."""
