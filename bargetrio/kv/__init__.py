"""kv is the replicated state machine: commands, and what they do to the keys.

May import protocol. It knows no clock and no randomness: every node applies the same commands and must come to the same keys.
Start at store.py; commands.py has what the log's entries hold.
"""
