"""protocol is what all rooms share: limits, hello, requests, answers, views of the cluster, events, errors. No I/O.

May import the standard library and msgspec, nothing of Barge. Start at requests.py.
"""
