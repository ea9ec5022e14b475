#!/usr/bin/env python3
"""jobs/mpirun/train between two starts: a request to stop ends it with 75 there, too. mpirun is one that always loses a
host, and hosts are asked by a command that takes a while.

usage: supervisor.py"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import harness

STOPPED, COMMUNICATION = 75, 69
check = harness.Check()


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def supervise(folder, when, number, **settings):
    """Starts the supervisor, sends a signal once it has said `when`; exit code, and starts."""
    starts = folder / "starts"
    starts.unlink(missing_ok=True)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "VLGTR_REMOTE": str(folder / "on"), **settings}
    process = subprocess.Popen([ROOT / "jobs/mpirun/train", folder / "hosts", "run.yaml"], env=environment, cwd=folder,
                               stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if when in line:
            break
    time.sleep(0.3)
    if number:
        process.send_signal(number)
    began = time.monotonic()
    code = process.wait()
    return code, time.monotonic() - began, len(starts.read_text().splitlines())


def piped(folder, **settings):
    """Starts the supervisor with somebody who reads what it says; exit code, what it says, seconds until it has said all."""
    began = time.monotonic()
    done = subprocess.run([ROOT / "jobs/mpirun/train", folder / "hosts", "run.yaml"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "VLGTR_REMOTE": str(folder / "on"), **settings})
    return done.returncode, done.stderr, time.monotonic() - began


def list_of_hosts(folder):
    """What mpirun reads in a list of hosts, and what editors make of one: comments, other words, no end of the last line."""
    (folder / "hosts").write_text("# of the left rack\nhere slots=2 max_slots=9 # two sockets\r\n\nthere\nyonder slots=4")
    _, said, took = piped(folder, VLGTR_MAX_RESTARTS="0", VLGTR_PROBE="20")
    check("every host of a list is asked, with its own ranks", "7 ranks on here:2,there:1,yonder:4\n" in said, said)
    check("who reads along is not kept waiting", took < 10, f"{took:.1f} s")


def handed_on(folder):
    """mpirun does not hand on by itself what NCCL is set to."""
    program(folder / "mpirun", f'echo "$*" >{folder}/words; exit 78')
    piped(folder, NCCL_SOCKET_IFNAME="ib0", NCCL_IB_HCA="mlx5")
    words = (folder / "words").read_text()
    check("NCCL's settings reach the ranks of other hosts", all(f"-x {name} " in words for name in ("VLGTR_JOB", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA")), words)


def outlived(folder):
    """As one whose ranks have ended and which does not come to its own end."""
    (folder / "vlgtr").write_bytes(pathlib.Path("/bin/sleep").read_bytes())
    (folder / "vlgtr").chmod(0o755)
    program(folder / "mpirun", f"echo start >>{folder}/starts; {folder}/vlgtr 1 & wait; exec sleep 60")
    code, said, took = piped(folder, VLGTR=str(folder / "vlgtr"), VLGTR_PROBE="0.3", VLGTR_MAX_RESTARTS="0")
    check("an mpirun that outlives its ranks is ended", code > 128 and took < 20 and "has outlived its ranks" in said, f"{code} after {took:.1f} s: {said}")


def no_program(folder):
    """As where VLGTR names nothing: it does not come to be there by starting again."""
    program(folder / "mpirun", f"echo start >>{folder}/starts; exit 127")
    code, said, _ = piped(folder, VLGTR_PAUSE="0", VLGTR_MAX_RESTARTS="3")
    check("a program that is not there ends it", code == 127 and "set VLGTR" in said, f"{code}: {said}")


def main():
    with tempfile.TemporaryDirectory(prefix="vlgtr-test-") as name:
        folder = pathlib.Path(name)
        program(folder / "mpirun", f"echo start >>{folder}/starts; exit {COMMUNICATION}")
        program(folder / "on", "sleep 0.7")
        list_of_hosts(folder)
        (folder / "hosts").write_text("here slots=2\n")
        for number, where, pause in ((signal.SIGTERM, "in the pause before a restart", "20"), (signal.SIGTERM, "while hosts are asked", "0"),
                                     (signal.SIGUSR1, "in the pause before a restart", "20"), (signal.SIGINT, "while hosts are asked", "0")):
            code, took, starts = supervise(folder, "starting again", number, VLGTR_PAUSE=pause)
            check(f"{number.name} {where}", code == STOPPED and took < 5 and starts == 1, f"{code} after {took:.1f} s, {starts} starts")
        code, _, starts = supervise(folder, "allows no more", 0, VLGTR_PAUSE="0", VLGTR_MAX_RESTARTS="1")
        check("a run that always loses a host", code == COMMUNICATION and starts == 2, f"{code}, {starts} starts")
        handed_on(folder)
        outlived(folder)
        no_program(folder)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main())
