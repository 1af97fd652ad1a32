"""Numbers and stores the facts that nodes announce; page, log.html, events.jsonl, metrics and tests read the same ones.

May import protocol, raft and files. Start at recorder.py; the live page is page/, and begins with page/model.js.
"""
