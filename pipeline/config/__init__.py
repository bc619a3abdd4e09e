"""The typed form of params.yaml: one section, one stage, one module, one class.

A stage imports its own section alone, so that a new parameter of one stage
does not make DVC rerun the others. `tree` holds them together.
"""
