"""transport carries. Peer links, client connections, link faults; bytes move in stream.py alone.

May import protocol, raft's messages, eventlog's facts; trio only where bytes move. Start at stream.py.
"""
