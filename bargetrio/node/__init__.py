"""node runs one server: it feeds messages, requests and time to the core and performs its effects.

May import the rooms above it (protocol, raft, kv, storage, transport, eventlog's facts) and trio. Start at server.py. What the
supervisor may call is in running_node.py.
"""
