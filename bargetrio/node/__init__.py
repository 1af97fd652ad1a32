"""node drives one server: its nursery, inbox, timer scope, effects, Persister and waiting requests.

May import the rooms above it (protocol, raft, kv, storage, transport, eventlog's facts) and trio. Start at server.py.
"""
