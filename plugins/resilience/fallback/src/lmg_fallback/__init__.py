"""Another model when one fails."""
