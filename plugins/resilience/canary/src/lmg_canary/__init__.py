"""A new model for a growing share of users."""
