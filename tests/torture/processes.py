"""A training in a session of its own, and what can be done to its processes."""
import os
import pathlib
import signal
import subprocess
import time

import support

KILLED = 128 + signal.SIGKILL


def read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:  # the process has ended
        return b""


def session_of(pid):
    """(session, state) of a process; None when there is none."""
    stat = read(f"/proc/{pid}/stat")
    if not stat:
        return None
    fields = stat.rsplit(b")", 1)[1].split()
    return int(fields[3]), fields[0].decode()


class Job:
    """One start of the program, with mpirun if `ranks` is above 1."""

    def __init__(self, binary, arguments, ranks, log, environment=None):
        self.binary, self.ranks, self.log = str(binary), ranks, log
        launcher = [] if ranks == 1 else [*support.mpirun(ranks), "--mca", "btl_vader_single_copy_mechanism", "none"]
        command = [*launcher, self.binary, "train", *arguments]
        self.started = time.monotonic()
        with open(log, "wb") as output:
            self.process = subprocess.Popen([str(w) for w in command], stdout=output, stderr=output,
                                            stdin=subprocess.DEVNULL, start_new_session=True,
                                            env=dict(support.environment(1), **(environment or {})))

    def members(self):
        """Living processes of the session; those that only wait to be reaped do not count."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                session = session_of(entry)
                if session and session[0] == self.process.pid and session[1] not in "ZX":
                    found.append(int(entry))
        return found

    def rank(self, number):
        """The process of a rank; None as long as there is none."""
        if self.ranks == 1:
            return self.process.pid if self.process.poll() is None else None
        for pid in self.members():
            if read(f"/proc/{pid}/cmdline").split(b"\0")[0].decode() == self.binary and \
                    f"OMPI_COMM_WORLD_RANK={number}".encode() in read(f"/proc/{pid}/environ").split(b"\0"):
                return pid
        return None

    def wait_for(self, condition, seconds):
        """True as soon as the condition holds; False when time is over or the job has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.005)
        return bool(condition())

    def handles(self, number, signum):
        """Whether the rank is there and has a handler for the signal."""
        pid = self.rank(number)
        for line in read(f"/proc/{pid}/status").decode().splitlines() if pid else ():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
        return False

    def is_stopped(self, number):
        pid = self.rank(number)
        session = session_of(pid) if pid else None
        return session is not None and session[1] == "T"

    def send(self, pid, signum):
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, TypeError):  # it was faster than we
            pass

    def kill(self, victim):
        """victim: rank 0 | rank 1 | mpirun | session."""
        if victim == "session":
            for pid in self.members():
                self.send(pid, signal.SIGKILL)
        elif victim == "mpirun" or self.ranks == 1:
            self.send(self.process.pid, signal.SIGKILL)
        else:
            self.send(self.rank(int(victim[-1])), signal.SIGKILL)

    def end(self, seconds=60):
        """(exit code as a shell has it, seconds until no process was left); None if it does not end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill("session")
            self.process.wait()
            return None
        start = time.monotonic()
        while self.members() and time.monotonic() - start < 15:
            time.sleep(0.01)
        left = time.monotonic() - start
        self.kill("session")
        return (code if code >= 0 else 128 - code), left

    def output(self):
        return read(self.log).decode(errors="replace")
