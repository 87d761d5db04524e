"What tests ask of other processes."
import time
import psutil

def gone(pids, patience=20):
    "Whether no process is left, but for dead ones that nobody has buried; the system may take a moment over a signal."
    alive = lambda p: psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE
    end = time.monotonic() + patience
    while (left := [p for p in pids if alive(p)]) and time.monotonic() < end: time.sleep(0.1)
    return not left
