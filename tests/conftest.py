"""What all tests take for granted of the process that they run in."""

import signal

# Who starts the tests in the background (`nohup`, `&` in a script) has Ctrl-C ignored, and every child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
