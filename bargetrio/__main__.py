"""The entry point: `bargetrio`, and `python -m bargetrio`. Until a command handles Ctrl-C it ends the process silently."""

import _signal  # type: ignore[import-not-found]  # built in: nothing is imported before the signal's default is in force

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not where it is ignored, as in a shell's background job
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from bargetrio.cli import main

if __name__ == "__main__":
    main()
