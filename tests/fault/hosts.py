"""Hosts that are network namespaces of this machine, each with a name, an address and a link that can be cut.

    with hosts.Hosts(4) as net:
        net.start("h1", ["mpirun", "--mca", "plm_rsh_agent", net.agent, ...])
        net.cut("h3")"""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time


def available():
    if os.geteuid() != 0 or not all(shutil.which(p) for p in ("ip", "tc", "unshare", "nsenter")):
        return False
    name = f"vlgtr-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name])
    return made


class Hosts:
    def __init__(self, n):
        self.names = [f"h{i + 1}" for i in range(n)]
        self.run_name = f"v{os.getpid()}"

    def space(self, host):
        return f"{self.run_name}-{host}"

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vlgtr-hosts-")
        self.agent = os.path.join(self.folder, "on")
        names = "".join(f"10.77.0.{i + 1} {name}\n" for i, name in enumerate(self.names))
        pathlib.Path(self.folder, "hosts").write_text("127.0.0.1 localhost\n" + names)
        # on HOST WORDS...: a shell there, as ssh does it; a host that is cut off does not answer
        pathlib.Path(self.agent).write_text(f"""#!/bin/bash
host=$1; shift
[ ! -e {self.folder}/cut-$host ] || exit 255
exec nsenter --net=/run/netns/{self.run_name}-$host unshare --uts --mount -- bash -c \\
    'hostname "$0"; mount --bind {self.folder}/hosts /etc/hosts; eval "$*"' "$host" "$@"
""")
        os.chmod(self.agent, 0o755)
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        switch = self.space("sw")
        self.ip("netns", "add", switch)
        self.ip("-n", switch, "link", "add", "br0", "type", "bridge")
        self.ip("-n", switch, "link", "set", "br0", "up")
        for i, host in enumerate(self.names):
            space = self.space(host)
            self.ip("netns", "add", space)
            self.ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", host, "netns", switch)
            self.ip("-n", switch, "link", "set", host, "master", "br0", "up")
            self.ip("-n", space, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            self.ip("-n", space, "link", "set", "lo", "up")
            self.ip("-n", space, "link", "set", "eth0", "up")

    def __exit__(self, *_):
        for host in [*self.names, "sw"]:
            for pid in self.processes(host):
                try:
                    os.kill(pid, 9)
                except OSError:
                    pass
            subprocess.run(["ip", "netns", "del", self.space(host)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    def shape(self, megabits):
        """What every host sends leaves at this rate; 0: as fast as it comes."""
        for host in self.names:
            link = ["qdisc", "replace", "dev", "eth0", "root"]
            how = ["tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "100ms"] if megabits else ["pfifo", "limit", "1000"]
            subprocess.run(["tc", "-n", self.space(host), *link, *how], check=True)

    def start(self, host, words, **options):
        return subprocess.Popen([self.agent, host, *(f"'{w}'" for w in words)], **options)

    def processes(self, host):
        found = subprocess.run(["ip", "netns", "pids", self.space(host)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def cut(self, host):
        pathlib.Path(self.folder, f"cut-{host}").touch()
        self.ip("-n", self.space("sw"), "link", "set", host, "down")

    def mend(self, host):
        """Until the others reach it again: a bridge hears of a link that is up a moment later."""
        self.ip("-n", self.space("sw"), "link", "set", host, "up")
        pathlib.Path(self.folder, f"cut-{host}").unlink(missing_ok=True)
        end = time.monotonic() + 10
        while not all(self.reaches(other, host) for other in self.names):
            if time.monotonic() > end:
                raise SystemExit(f"the link of {host} is up, but nobody reaches it")
            time.sleep(0.05)

    def reaches(self, host, other):
        """Nobody listens there: who says so answers."""
        ask = f"import socket, sys; s = socket.socket(); s.settimeout(1); sys.exit(s.connect_ex(('10.77.0.{self.names.index(other) + 1}', 9)) != {errno.ECONNREFUSED})"
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.space(host)}", sys.executable, "-c", ask]).returncode == 0

    def kill(self, host):
        """As if its power went."""
        pathlib.Path(self.folder, f"cut-{host}").touch()
        for pid in self.processes(host):
            os.kill(pid, 9)
