#!/usr/bin/env python3
"""Four hosts under mpirun and its supervisor: a link is cut, a host dies, a rank is stopped, a rank is slow. Each is noticed
in the time that the options say and named, the run goes on, on the hosts that are left, to the weights of a run that
nobody disturbed.

usage: many_hosts.py VLGTR [CASE...]

Skips (77) where network namespaces cannot be made."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fault")]
import harness
import hosts

SKIPPED, SILENCE = 77, 5
# What mpirun takes beside that: it notices a cut by its own keep-alive, and ends ranks with seconds between its signals.
SLACK = 20
STEPS = {"schedule.heads.steps": 200, "run.checkpoint_every": 10, "watch.silence": SILENCE}
check = harness.Check()


class Test:
    def __init__(self, bench, net):
        self.bench, self.net = bench, net
        bench.write("hosts", "".join(f"{name} slots=1\n" for name in net.names))
        bench.train(1, {**STEPS, "run.folder": "calm"})
        self.want = bench.hashes("calm")
        self.env = {**bench.environment(1), "VLGTR": bench.vlgtr[-1], "VLGTR_REMOTE": net.agent, "VLGTR_PAUSE": "1", "VLGTR_PROBE": "3",
                    "OMPI_MCA_btl_tcp_if_include": "eth0", "OMPI_MCA_oob_tcp_if_include": "eth0",
                    "OMPI_MCA_btl": "vader,tcp,self"}

    def supervise(self, folder, do, more=()):
        """Exit code, seconds from what was done to the next start (or the end), and everything said."""
        words = [str(ROOT / "jobs" / "mpirun" / "train"), "hosts", "run.yaml",
                 *self.bench.sets({**STEPS, "run.folder": folder}), *more]
        path = pathlib.Path(self.bench.path(f"{folder}.err"))
        with open(path, "w") as err:
            process = self.net.start("h1", words, cwd=self.bench.folder, env=self.env, stdout=err, stderr=err)
        if not self.bench.wait_for_step(12, folder, process):
            return process.wait(), 0, path.read_text()
        began = time.monotonic()
        do(self.bench.processes())
        while process.poll() is None and "restart 1," not in path.read_text() and time.monotonic() < began + 90:
            time.sleep(0.1)
        took = time.monotonic() - began
        try:
            process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait(), took, path.read_text()

    def recovered(self, what, seen, named, ranks, within, folder):
        code, took, said = seen
        line = next((line for line in said.splitlines() if re.search(named, line)), "")
        again = next((line for line in said.splitlines() if "restart 1," in line), "")
        check(f"{what}: noticed and named", line and took < within, f"{took:.1f} s: {line}")
        check(f"{what}: goes on with {ranks} ranks to the same end",
              code == 0 and f" {ranks} ranks" in again and self.bench.hashes(folder) == self.want, f"{code} {again}")
        if code or not line or f" {ranks} ranks" not in again:
            print("\n".join(line for line in said.splitlines() if not line.startswith("step "))[-6000:])

    def cut(self):
        seen = self.supervise("cut", lambda _: self.net.cut("h3"))
        self.recovered("a link is cut", seen, r"rank 2 on h3 has been silent|lost communication with a remote daemon", 3,
                       SILENCE + SLACK, "cut")
        left = set(self.net.processes("h3")) & set(self.bench.processes().values())
        check("a link is cut: no rank is left on the side that was cut off", not left, left)
        self.net.mend("h3")

    def killed(self):
        seen = self.supervise("killed", lambda _: self.net.kill("h4"))
        self.recovered("a host dies", seen, r"h4 does not answer", 3, SLACK, "killed")
        self.net.mend("h4")

    def stopped(self):
        seen = self.supervise("stopped", lambda ranks: os.kill(ranks[1], signal.SIGSTOP))
        self.recovered("a rank is stopped", seen, r"rank 1 on h2 has been silent for", 4, SILENCE + SLACK, "stopped")

    def slow(self):
        """Nothing need be recovered: the run is slow, and says whose fault that is."""
        code, _, said = self.supervise("slow", lambda _: None, more=["--inject", "slow@3,5"])
        line = next((line for line in said.splitlines() if "rank 3 on h4" in line and "injected" not in line), "")
        check("a rank is five times slower: named, same end", code == 0 and line and self.bench.hashes("slow") == self.want, line)


def main(vlgtr, *cases):
    if not hosts.available():
        print("no network namespaces: this test wants root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and iproute2")
        return SKIPPED
    with harness.Bench(vlgtr) as bench, hosts.Hosts(4) as net:
        bench.make_data()
        test = Test(bench, net)
        for case in cases or ("stopped", "cut", "killed", "slow"):
            began = time.monotonic()
            getattr(test, case)()
            print(f"    {time.monotonic() - began:.1f} s", flush=True)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
