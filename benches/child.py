"""A small parent: runs a command and tells its time and peak memory.

`python child.py FD COMMAND...` writes "seconds processor-seconds peak-bytes" to the descriptor, and fails
where the command does. A process counts as its own peak what its parent occupied when it was started, so a
large parent cannot measure.
"""

import os
import sys
import time


def main() -> None:
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    start = time.perf_counter()
    process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    os.write(report, f"{seconds} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss << 10}".encode())
    sys.exit(abs(os.waitstatus_to_exitcode(status)))


main()
