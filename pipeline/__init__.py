"""From a Kaggle image competition's files to a validated submission."""
