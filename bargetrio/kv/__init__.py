"""The replicated state machine: commands, and their effect on the keys.

May import protocol. Deterministic, without clock and randomness: every node applies the same commands and must have the same
keys. Start at store.py; commands.py has the content of the log's entries.
"""
