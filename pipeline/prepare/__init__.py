"""From the competition's files to packed arrays, their tables and the audit."""
