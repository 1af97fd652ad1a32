"""Connections: handshake, peer links, client connections, link faults; sockets are opened in sockets.py only.

May import protocol and raft. Start at network.py.
"""
