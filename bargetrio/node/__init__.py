"""Runs one server: the product's host of a replica, with connections, threads, the disk and trio's time.

May import protocol, raft, kv, storage, transport, eventlog and replica. Start at opening.py; running_node.py has the interface
for cluster/.
"""
