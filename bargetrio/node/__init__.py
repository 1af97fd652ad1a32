"""node runs one server: it is a replica's host in the product, with connections, threads, the disk and trio's time.

May import protocol, raft, kv, storage, transport, eventlog and replica. Start at opening.py; what cluster/ may call is in
running_node.py.
"""
