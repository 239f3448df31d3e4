"""The owner's page: what a device's owner agreed to, what left, what it cost, why this ad, and how to stop it all."""
