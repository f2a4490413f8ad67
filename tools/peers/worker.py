"""The driver's end of a worker: a process that answers one request at a time."""
import json
import os
import select
import subprocess
import time
from pathlib import Path

TIMEOUT_SECONDS = 900


class WorkerFailed(RuntimeError):
    pass


class Worker:
    """A started engine with its model loaded. `close` ends it."""

    def __init__(self, name: str, command: list, log: Path, environment=None):
        self.name, self.log = name, log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, bufsize=1, env={**os.environ, **(environment or {})})
        self.description = self._read()

    def ask(self, request: dict) -> dict:
        """Answers with the worker's reply. Throws WorkerFailed where it reports an error."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._fail("it has ended")
        answer = self._read()
        if "error" in answer:
            raise WorkerFailed(f"{self.name}, asked {request}: {answer['error']}")
        return answer

    def cpu_seconds(self) -> float:
        """Processor time used so far, by all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        """Lets the worker end; one that does not within ten seconds is killed."""
        try:
            self.process.stdin.write('{"op": "quit"}\n')
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict:
        # One request at a time: nothing of a later answer can be waiting in the reader's buffer.
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_SECONDS)
        if not ready:
            self._fail(f"no answer within {TIMEOUT_SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            self._fail("it has ended")
        return json.loads(line)

    def _fail(self, why: str):
        self.process.kill()
        self.process.wait()
        tail = "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-8:])
        raise WorkerFailed(f"{self.name}: {why}. Its last lines ({self.log}):\n{tail}")


def idle_share(workers, seconds: float = 1.0) -> float:
    """Processors that the workers use together while nobody asks them anything."""
    time.sleep(0.2)  # threads may wait a moment before they sleep
    before = sum(worker.cpu_seconds() for worker in workers)
    time.sleep(seconds)
    return (sum(worker.cpu_seconds() for worker in workers) - before) / seconds


class Neighbours:
    """How many processors were busy with something else than these workers and this process."""

    def __init__(self, workers):
        self.workers = list(workers)
        self.start = self._reading()

    def _reading(self):
        total = Path("/proc/stat").read_text().splitlines()[0]
        fields = [int(field) for field in total.split()[1:]]
        user, nice, system, _, _, interrupt, soft_interrupt, steal = fields[:8]
        ticks = user + nice + system + interrupt + soft_interrupt + steal
        busy = ticks / os.sysconf("SC_CLK_TCK")
        own = sum(worker.cpu_seconds() for worker in self.workers) + time.process_time()
        return time.monotonic(), busy - own

    def processors(self) -> float:
        """Mean since this was made."""
        (start, before), (end, after) = self.start, self._reading()
        return max(0.0, (after - before) / (end - start))
