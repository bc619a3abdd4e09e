"""Blends the members' predictions into one, with an honest estimate of its score."""
