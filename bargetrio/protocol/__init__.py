"""protocol shares. What every room must agree on: limits, hello, requests, answers, errors, lines. All of it pure.

May import the standard library and msgspec, nothing of Barge. Start at requests.py.
"""
