"""What tests that run the program share: a scratch folder with a small made-up data set, a run configuration, and
`vlgtr` with or without mpirun.

    with harness.Bench(vlgtr) as bench:
        bench.make_data(train=60)
        bench.train(2, {"run.folder": "a"})
        print(bench.hashes("a"))
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

CONFIG = """
model: {preset: tiny}
vision: {grid: 4}
text: {tokenizer: data/tokenizer}
data: {shards: [shards], side: 32, phrases: 4, max_targets: 2}
train: {global_batch: 8, micro_batch: 1, allow_from_scratch: true, clip_norm: 1, device: cpu}
run: {folder: run, log_every: 1, hash_every: 1}
schedule:
  - {name: heads, steps: 16, lr: 1e-3}
  - {name: blocks, steps: 14, unfreeze_blocks: 1, vision_lr: 1e-4, lr: 1e-3, crop: 0.5, flip: 0.5, colour: 0.8,
     colour_safe: false}
"""


def preloading(library):
    """Variables that load a library before all others: by its name, as LD_PRELOAD takes blanks of a path for its end."""
    folder, name = os.path.split(os.path.abspath(library))
    return {"LD_PRELOAD": name, "LD_LIBRARY_PATH": ":".join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH"))))}


class Check:
    """check("what is promised", whether it holds, "what was seen") prints a line; check.bad counts what does not hold."""

    def __init__(self):
        self.bad = 0

    def __call__(self, what, good, seen=""):
        self.bad += not good
        print(f"{'ok ' if good else 'BAD'} {what}  {seen}", flush=True)


class Bench:
    def __init__(self, vlgtr, through=(), timed=False):
        """through: words before the program's, as of tests/emu/run. timed: its threads wait for each other as they do for
        users, awake, which is faster where they have processors to themselves and many times slower where not."""
        self.timed = timed
        self.vlgtr = [*through, os.path.realpath(vlgtr)]
        self.folder = self.segments = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vlgtr-test-")
        self.segments = tempfile.mkdtemp(prefix="vlgtr-test-", dir="/dev/shm")
        self.write("run.yaml", CONFIG)
        return self

    def __exit__(self, *_):
        for folder in (self.folder, self.segments):
            shutil.rmtree(folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        mode = "wb" if isinstance(text, bytes) else "w"
        with open(self.path(name), mode) as f:
            f.write(text)

    def environment(self, ranks=0):
        env = dict(os.environ)
        if ranks:  # Open MPI leaves its plugins' memory behind; leaks of our own show in runs without mpirun
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        env.update(
            OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1",
            OMPI_MCA_hwloc_base_binding_policy="none",
            OMPI_MCA_btl_vader_backing_directory=self.segments, OMPI_MCA_orte_tmpdir_base=self.folder,
        )  # the last two: what a killed mpirun and killed ranks leave there goes with the bench
        if not self.timed:
            env["OMP_WAIT_POLICY"] = "passive"
        return env

    def command(self, ranks, *words):
        launcher = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks else []
        return [*launcher, *self.vlgtr, *words]

    def run(self, *words, ranks=0, **options):
        """One run of the program; ranks=0 runs it without mpirun."""
        return subprocess.run(
            self.command(ranks, *words), cwd=self.folder, env=self.environment(ranks), capture_output=True, text=True,
            errors="replace", **options,
        )

    def start(self, *words, ranks=0, before=()):
        """before: words before mpirun's own."""
        return subprocess.Popen(
            [*before, *self.command(ranks, *words)], cwd=self.folder, env=self.environment(ranks),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def processes(self):
        """Rank to process id of the program's processes that run in this bench's folder now."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "exe") != self.vlgtr[-1] or os.readlink(entry / "cwd") != self.folder:
                    continue
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it is gone, or not ours to look at
            rank = [int(e.split(b"=")[1]) for e in environment if e.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[rank[0] if rank else 0] = int(entry.name)
        return found

    def kill_left(self):
        """Ends ranks that outlived their launcher."""
        for pid in self.processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_for_step(self, step, folder, process):
        """Until the run has told of this step; whether it still goes on then."""
        while process.poll() is None:
            if os.path.exists(self.path(folder, "metrics.jsonl")):
                steps = [r["step"] for r in self.records(folder) if "loss" in r]
                if steps and steps[-1] >= step:
                    return True
            time.sleep(0.005)
        return False

    def must(self, *words, ranks=0):
        done = self.run(*words, ranks=ranks)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def make_data(self, train=40, val=6, test=4):
        self.must("synth", "data", "--train", str(train), "--val", str(val), "--test", str(test), "--side", "64")
        self.must("shard", "import", "synth", "data", "shards")

    @staticmethod
    def sets(options):
        return [word for key, value in options.items() for word in ("--set", f"{key}={value}")]

    def train(self, ranks, options=None, more=()):
        return self.must("train", "run.yaml", *self.sets(options or {}), *more, ranks=ranks)

    def records(self, folder="run"):
        text = pathlib.Path(self.path(folder, "metrics.jsonl")).read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def hashes(self, folder="run"):
        """Step to weights hash."""
        return {r["step"]: r["weights_hash"] for r in self.records(folder) if "weights_hash" in r}
