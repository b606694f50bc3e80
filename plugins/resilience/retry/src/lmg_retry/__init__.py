"""Once more, within a budget."""
