"""simulator tries to break it. For now: a disk that loses, tears and reorders what was not synced.

May import protocol, raft, kv, storage, eventlog's rendering; no trio, no clock, no global randomness. Start at disk.py.
"""
