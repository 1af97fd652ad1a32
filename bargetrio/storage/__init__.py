"""A node's durable state: its folder, write-ahead log, snapshots and recovery, on a `Disk` port; blocking code.

May import raft; no trio. Start at wal.py; disk.py is the port, real_disk.py the real one.
"""
