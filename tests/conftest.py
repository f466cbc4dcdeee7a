"""What every test needs: a Ctrl-C that arrives."""

from __future__ import annotations

import signal

# A shell starts its background jobs with SIGINT ignored, and programs inherit that: the tests of Ctrl-C would wait for
# something that never comes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
