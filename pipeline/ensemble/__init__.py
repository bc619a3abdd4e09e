"""From the members' predictions to one, and an honest estimate of its score."""
