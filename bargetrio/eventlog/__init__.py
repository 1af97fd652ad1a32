"""eventlog numbers and keeps the facts that nodes announce; page, log.html, events.jsonl, metrics and tests read the same ones.

May import raft's facts and messages; trio only in recorder.py, for subscriptions. Start at event.py; the live page
is page/, and begins with page/model.js.
"""
