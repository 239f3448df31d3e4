"""The device's own storage: encrypted events, their keys apart from them, and their end."""
