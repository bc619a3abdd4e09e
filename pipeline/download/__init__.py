"""Where the competition's files come from."""
