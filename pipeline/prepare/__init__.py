"""Makes packed arrays, their tables and the audit from the competition's files."""
