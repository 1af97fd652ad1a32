"""kv means. The state machine: what a command in the log does to the keys.

May import protocol; not raft, no clock, no randomness: every node applies the same commands and must come to the same keys.
Start at store.py; commands.py says what stands in the log.
"""
