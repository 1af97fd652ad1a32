"""storage keeps a node's durable state: its folder, write-ahead log, snapshots and recovery, on a `Disk` port; blocking code.

May import raft's messages and records, os and zlib; no trio. Start at wal.py; disk.py is the port and the real disk.
"""
