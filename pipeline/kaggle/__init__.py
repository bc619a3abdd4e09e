"""Kaggle, through its official client."""
