"""transport has the connections: handshake, peer links, client connections, link faults; sockets are opened in sockets.py only.

May import protocol, raft's messages, eventlog's facts; trio only where bytes move. Start at network.py.
"""
