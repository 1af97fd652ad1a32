"""The page in a real Chromium, on a real daemon: Debian's chromium, driven by Playwright. Start at chrome.py."""
