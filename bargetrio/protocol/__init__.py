"""Types that all packages share: limits, hello, requests, answers, views of the cluster, events, errors. No I/O.

May import nothing of Barge. Start at requests.py.
"""
