"""The submission file, and the score to expect of it."""
