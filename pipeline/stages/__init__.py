"""One module a stage: read, call, write. Only these, and paths, know where things lie."""
