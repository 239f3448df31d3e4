"""What crosses a border: messages, their bytes, and signed documents."""
