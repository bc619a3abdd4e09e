"""What docs/PERFORMANCE.md claims, measured anew: each module prints rates beside a named peer's.

Run one with `python -m benchmarks.NAME` in the repository's root on an otherwise idle machine.
Peer and ours take turns (A B A B …), so that a slow minute of the machine meets both, and the
ratio of the medians is what counts: rates differ between machines, the ratio far less.
"""
