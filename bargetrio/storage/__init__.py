"""storage remembers. A node's folder, its write-ahead log and its recovery, on a `Disk` port; plain blocking code.

May import raft's messages and records, os and zlib; no trio. Start at wal.py; disk.py is the port and the real disk.
"""
