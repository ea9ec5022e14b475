"""A Slurm of a test's own: real daemons, every file in one folder, nodes that are slurmds of this machine.

    with slurm_cluster.Cluster(nodes=2) as slurm:
        job = slurm.submit(folder, "job.sbatch", options=["-N", "2"])
        slurm.wait(job, "COMPLETED")"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")

ENDS = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={t}/munge/sock
CredType=cred/munge
StateSaveLocation={t}/state
SlurmdSpoolDir={t}/spool.%n
TmpFS={t}/tmp.%n
SlurmctldPidFile={t}/slurmctld.pid
SlurmdPidFile={t}/slurmd.%n.pid
SlurmctldLogFile={t}/slurmctld.log
SlurmdLogFile={t}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
SlurmdTimeout=10
KillWait=5
TCPTimeout=2
InactiveLimit=0
PropagateResourceLimitsExcept=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""
NODE = ("NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 "
        "ThreadsPerCore=1 RealMemory=1000 Gres=gpu:2\n")
PARTITIONS = ("PartitionName=main Nodes=n[1-{n}] Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=30\n"
              "PartitionName=urgent Nodes=n[1-{n}] MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF\n")


def available():
    """Debian's Slurm is there, and somebody who may start its daemons."""
    there = all(shutil.which(p, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for p in PROGRAMS)
    return os.geteuid() == 0 and there and subprocess.run(["unshare", "--uts", "true"]).returncode == 0


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Cluster:
    def __init__(self, nodes):
        self.n = nodes

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vlgtr-slurm-")
        self.env = {**os.environ, "SLURM_CONF": self.path("slurm.conf"), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
                    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_WAIT_POLICY": "passive",
                    "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
                    "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}
        try:
            self.write_files()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_files(self):
        host, ports = socket.gethostname().split(".")[0], free_ports(self.n + 1)
        nodes = range(1, self.n + 1)
        conf = CONF.format(host=host, port=ports[0], t=self.folder) + PARTITIONS.format(n=self.n)
        conf += "".join(NODE.format(i=i, host=host, port=ports[i]) for i in nodes)
        pathlib.Path(self.path("slurm.conf")).write_text(conf)
        gres = "".join(f"NodeName=n{i} Name=gpu File={self.folder}/gpu[0-1]\n" for i in nodes)
        pathlib.Path(self.path("gres.conf")).write_text(gres)
        for name in ("munge", "state", *(f"{kind}.n{i}" for i in nodes for kind in ("spool", "tmp"))):
            os.makedirs(self.path(name), mode=0o755)
        for gpu in range(2):
            os.mknod(self.path(f"gpu{gpu}"), 0o20666, os.makedev(1, 3))
        with open(os.open(self.path("munge/key"), os.O_CREAT | os.O_WRONLY, 0o400), "wb") as f:
            f.write(os.urandom(1024))
        os.chmod(self.folder, 0o755)

    def start(self):
        m = self.path("munge")
        self.call("munged", f"--socket={m}/sock", f"--key-file={m}/key", f"--pid-file={m}/pid", f"--log-file={m}/log",
                  f"--seed-file={m}/seed")
        self.call("slurmctld")
        for i in range(1, self.n + 1):
            self.start_node(f"n{i}")
        self.until(lambda: self.nodes("idle") == self.n, 60, "nodes are not idle")

    def __exit__(self, *_):
        self.call("scancel", "--full", "--user=root", check=False)
        for _ in range(50):
            if not self.call("squeue", "-h", check=False):
                break
            time.sleep(0.2)
        self.call("scontrol", "shutdown", check=False)
        time.sleep(0.5)
        for name in ("munge/pid", "slurmctld.pid", *(f"slurmd.n{i}.pid" for i in range(1, self.n + 1))):
            try:
                os.kill(int(pathlib.Path(self.path(name)).read_text()), 9)
            except (OSError, ValueError):
                pass
        for pid in self.processes():
            os.kill(pid, 9)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *words, check=True, **options):
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, **options)
        if check and done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    @staticmethod
    def until(true, seconds, what):
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise SystemExit(f"after {seconds} s: {what}")
            time.sleep(0.1)

    def nodes(self, state):
        return self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split().count(state)

    def submit(self, folder, *words):
        return self.call("sbatch", "--parsable", *words, cwd=folder)

    def job(self, job):
        """Fields of scontrol show job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "show", "job", job, check=False)))

    def nodes_of(self, job):
        return self.call("scontrol", "show", "hostnames", self.job(job)["NodeList"]).split()

    def state(self, job):
        return self.job(job).get("JobState", "")

    def wait(self, job, state, seconds=120):
        """Waits; a job that goes back into the queue need not stay there for the two minutes that are usual, but for as
        long as Slurm takes to clear away its first try."""
        end, ended = time.monotonic() + seconds, 0
        while self.state(job) != state:
            fields = self.job(job)
            ended = ended + 1 if fields.get("JobState") in ENDS else 0  # a requeued job is FAILED for a moment
            if time.monotonic() > end or ended > 15:
                out = fields.get("StdOut", "")
                said = pathlib.Path(out).read_text()[-2000:] if os.path.exists(out) else ""
                raise SystemExit(f"job {job} is {fields.get('JobState')}, not {state}; it said\n{said}")
            if fields.get("Reason") == "BeginTime":
                time.sleep(4)
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
            time.sleep(0.2)
        return self.job(job)

    def processes(self, node=None):
        """Processes that Slurm started for jobs of this cluster, on one node or all."""
        mine = f"SLURM_CONF={self.path('slurm.conf')}".encode()
        name = f"SLURMD_NODENAME={node}".encode() if node else None
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mine in environment and any(e.startswith(b"SLURMD_NODENAME=") for e in environment):
                if not name or name in environment:
                    found.append(int(entry.name))
        return found

    def kill_node(self, node):
        """As if its power went: the daemon, the steps' keepers and all they started."""
        daemon = int(pathlib.Path(self.path(f"slurmd.{node}.pid")).read_text())
        ranks = self.processes(node)
        keepers = set()
        for pid in ranks:
            try:
                parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if pathlib.Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                    keepers.add(parent)
            except OSError:
                pass
        for pid in (daemon, *keepers, *ranks):
            try:
                os.kill(pid, 9)
            except OSError:
                pass

    def start_node(self, node):
        """With a host name of its own: Open MPI names what local ranks share after it."""
        self.call("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec slurmd -N "$0"', node)
