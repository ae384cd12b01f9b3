from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from serving import processes
from serving.processes import Leader


class JustEnded(Leader):
    """One that ends between the look and the signal: the look said that it was alive."""

    def is_alive(self) -> bool:
        return True


def test_the_workers_of_a_leader_that_ends_while_it_is_to_be_killed_are_found(tmp_path: Path) -> None:
    script = "sleep 300 & echo $!"  # a worker that outlives the leader of its session
    with subprocess.Popen(
        ["sh", "-c", script],
        env=os.environ | {processes.MARK: str(tmp_path)},
        start_new_session=True,
        stdout=subprocess.PIPE,
    ) as java:
        assert java.stdout is not None
        worker = psutil.Process(int(java.stdout.readline()))
        java.wait()
        leader = JustEnded(java.pid, 0.0, str(tmp_path))
        try:
            assert [process.pid for process in leader.members()] == [worker.pid]
            assert not processes.end(leader, grace_s=0)
            assert leader.members() == []
        finally:
            if worker.is_running():
                worker.kill()
