#!/usr/bin/env python3
"""One rank on a device goes wrong: the others say it in one line, soon, and leave with the documented exit code.

usage: device_peer.py BUILD CASE

The codes are the ranks' own: mpirun reports the signal of a rank that was killed. A fault happens in an operation of the
emulated NCCL, by number; with real GPUs, and in cases `between`, in the rank itself before a step."""

import os
import re
import subprocess
import sys
import time

# case: ranks, mode, deadline in seconds, fault, exit code of the ranks that are left, what the line says
CASES = {
    "killed": (3, "steps", 60, "1:7:kill", 69, r"rank 1 on \S+ \(process \d+\) is gone; .* start again"),
    "killed-first": (3, "steps", 60, "0:7:kill", 69, r"rank 0 on \S+ \(process \d+\) is gone; .* start again"),
    "killed-between": (3, "steps", 60, "1:7:kill", 69, r"rank 1 on \S+ \(process \d+\) is gone; .* start again"),
    "stopped": (3, "steps", 2, "1:7:stop", 69, r"GPUs for 2 s, longer than train\.deadline allows; .* start again"),
    "mismatch": (2, "mismatch", 60, "", 70, r"rank \d calls ncclAllReduce\((512|1024) .*rank \d calls ncclAllReduce"),
}
MOST_S = 20  # with the deadline of 2 s, on a machine that is busy with other tests


def main(build, case):
    ranks, mode, deadline, fault, code, line = CASES[case]
    real = os.path.exists("/dev/nvidiactl")
    if real and mode == "mismatch":
        return 77  # NCCL does not notice
    between = real or case.endswith("between")
    program = f"{os.path.dirname(__file__)}/../emu/run {build}/tests/dist/mpi_device_peer {mode} {deadline}" + (f" {fault}" if between else "")
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), "sh", "-c", f'{program}; echo "left with $?"']
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, timeout=120,
                         env=dict(os.environ, VG_EMU_NCCL_FAULT="" if between else fault, VLGTR_BUILD=build))
    took = time.monotonic() - began
    text = run.stdout + run.stderr
    if "no GPU" in text:
        print(text)
        return 77
    said = [l for l in text.splitlines() if l.startswith("mpi_device_peer: ")]
    codes = {int(c) for c in re.findall(r"(?:left with|with errorcode) (\d+)", text)} - {137, 143} # killed by mpirun
    good = len(said) == 1 and re.search(line, said[0]) and codes == {code} and took < MOST_S
    print(f"{said}, ranks left with {codes}, after {took:.1f} s")
    if not good:
        print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
