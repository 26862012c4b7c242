"""On the `PYTHONPATH` of a process, this puts its wall clock wrong by so many seconds, as on a host whose
time is not kept: for `time` and `datetime` alike, from the first line of Python on. What only goes forward
(`time.monotonic`) is right on such a host, and here.
"""

import os
from datetime import timedelta

import time_machine

_off = timedelta(seconds=float(os.environ["JDOCR_TEST_CLOCK_IS_OFF_BY_SECONDS"]))
time_machine.travel(_off, tick=True).start()
