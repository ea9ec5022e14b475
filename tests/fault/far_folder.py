#!/usr/bin/env python3
"""Folders of file servers, as several hosts see them: what their clients cache, lack and refuse changes no bit and loses
no checkpoint.

usage: far_folder.py VLGTR FAR_FOLDER     the library that shows folders so"""

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

COMMUNICATION, STORAGE = 69, 74
STORED = {"features.images": "disk", "features.phrases": "disk"}
check = harness.Check()


class Far(harness.Bench):
    """A bench whose runs see its folder so."""

    def __init__(self, vlgtr, library):
        super().__init__(vlgtr)
        self.preload = library

    def far(self, how, *words, ranks=0):
        variables = {**{f"FAR_{name}": str(value) for name, value in how.items()}, **harness.preloading(self.preload)}
        with mock.patch.dict(os.environ, variables):
            return self.run(*words, ranks=ranks)

    def far_train(self, how, folder, ranks=0, **options):
        return self.far(how, "train", "run.yaml", *self.sets({"run.folder": folder, **options}), ranks=ranks)


def said(done):
    return f"{done.returncode} {[line for line in done.stderr.splitlines() if line.startswith('vlgtr ')]}"


def stores(bench, want):
    """Ranks on two hosts put rows into the same pages of one file."""
    done = bench.far_train({"PAGES": 1}, "pages", 2, **STORED)
    good = done.returncode == 0 and bench.hashes("pages") == want
    check("rows that ranks of two hosts put into one page are all kept, and seen by both", good, "" if good else said(done))
    for why in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        done = bench.far_train({"LOCKS": why}, f"no-locks-{why}", 2, **STORED)
        good = done.returncode == 0 and bench.hashes(f"no-locks-{why}") == want and "features: done" in done.stderr
        check(f"stores where the file system has no locks ({errno.errorcode[why]})", good, "" if good else said(done))


def absent_before(bench, want):
    """Hosts that looked before another one made it, and believe for a while that it is not there."""
    go_on = {"run.checkpoint_every": 100}
    bench.train(1, {"run.folder": "remembered", "run.until": "heads", "run.checkpoint_every": 8})
    done = bench.far_train({"ABSENT": "/manifest.json"}, "remembered", **go_on)
    resumed = "resumed from remembered/checkpoints/step-00000016" in done.stderr
    good = done.returncode == 0 and resumed and bench.hashes("remembered") == want
    check("a checkpoint whose manifest was not there a moment ago is gone on from, and not deleted", good, "" if good else said(done))
    for name in ("images-train.h5", "images-train.h5.partial"):
        done = bench.far_train({"ABSENT": f"/{name}"}, f"saw-no-{name}", 2, **STORED)
        good = done.returncode == 0 and bench.hashes(f"saw-no-{name}") == want and "image features: done" in done.stderr
        good = good and "the steps compute" not in done.stderr
        check(f"a store whose {name} was not there a moment ago is built and read", good, "" if good else said(done))


def passing(bench, want):
    """Errors that pass, or are those of the storage, and not of what lies there."""
    bench.train(1, {"run.folder": "stale", "run.until": "heads", "run.checkpoint_every": 8})
    for name in ("weights.safetensors", "manifest.json"):
        go_on = {"run.until": "heads", "run.checkpoint_every": 100}
        done = bench.far_train({"FAIL": f"/{name}", "ERROR": errno.ESTALE, "TIMES": 2}, "stale", **go_on)
        good = done.returncode == 0 and "WARNING" not in done.stderr
        check(f"a {name} that is stale for a moment costs no checkpoint", good, "" if good else said(done))
    how = {"FAIL": ".jpg", "ERROR": errno.ENOTCONN, "TIMES": 10**6}
    done = bench.far(how, "shard", "import", "synth", "data", "gone")
    check("pictures whose storage is gone (ENOTCONN) are not set aside as bad", done.returncode == STORAGE, said(done))


def refused(bench, want):
    """What some file systems do not do, and what is not allowed there."""
    for what, how in (("whose folders are found only after mkdir was refused", {"COLD": 1}), ("that cannot sync a folder", {"SYNC": 1})):
        done = bench.far_train(how, what.replace(" ", "-"))
        good = done.returncode == 0 and bench.hashes(what.replace(" ", "-")) == want
        check(f"a run on a file system {what}", good, "" if good else said(done))
    with mock.patch.dict(os.environ, {"HDF5_USE_FILE_LOCKING": "TRUE"}):
        done = bench.far({"LOCKS": errno.ENOSYS}, "shard", "inspect", "shards")
    check("shards are read where HDF5 is told to lock and nothing can", done.returncode == 0, said(done))
    done = bench.far({"ROOM": 1}, "doctor", "run.yaml")
    check("doctor, where the file system does not tell its room", done.returncode == 0 and "room unknown" in done.stdout, said(done))
    done = bench.far_train({"QUOTA": 1}, "quota", **STORED)
    good = done.returncode == 0 and "Disk quota exceeded for" in done.stderr and bench.hashes("quota") == want
    check("a store above the quota is known before its rows are computed", good, "" if good else said(done))


def of_a_group(bench):
    """The umask decides who may write: a colleague may go on with a run in a shared folder."""
    before = os.umask(0o002)
    try:
        bench.train(1, {"run.folder": "shared", "run.until": "heads", "features.images": "disk"})
    finally:
        os.umask(before)
    shut = [str(p) for p in pathlib.Path(bench.path("shared")).rglob("*") if not p.stat().st_mode & 0o020]
    check("with umask 002 the group may write all that a run makes", not shut, shut)


def apart(bench, what, other):
    """Two ranks in folders of their own, as on disks of two hosts; other(folder): what the second has otherwise."""
    words = ["train", "run.yaml", *bench.sets({"run.folder": bench.path(f"apart-{what}"), "vision.weights": "tower.safetensors"})]
    launch = ["mpirun", "--oversubscribe"]
    for host in ("a", "b"):
        folder = bench.path(f"{what}-{host}")
        os.mkdir(folder)
        os.symlink(bench.path("shards"), os.path.join(folder, "shards"))
        shutil.copytree(bench.path("data", "tokenizer"), os.path.join(folder, "data", "tokenizer"))
        for name in ("run.yaml", "tower.safetensors"):
            shutil.copy(bench.path(name), folder)
        launch += [*([":"] if host == "b" else []), "-n", "1", "-wdir", folder, *bench.vlgtr, *words]
    other(pathlib.Path(folder))
    return subprocess.run(launch, env=bench.environment(2), capture_output=True, text=True)


def files_of_hosts(bench):
    """What each rank reads from a disk of its host is the same, or the run does not begin."""

    def another_tower(folder):
        shutil.copy(bench.path("other.safetensors"), folder / "tower.safetensors")

    def another_tokenizer(folder):
        vocab = folder / "data" / "tokenizer" / "vocab.json"
        ids = json.loads(vocab.read_text())
        a, b = list(ids)[-2:]
        vocab.write_text(json.dumps({**ids, a: ids[b], b: ids[a]}))

    bench.train(1, {"run.folder": "other", "train.seed": 2, "run.until": "heads"})
    for folder, name in (("want", "tower"), ("other", "other")):
        newest = max(os.listdir(bench.path(folder, "checkpoints")), key=lambda n: (n.startswith("step-"), n))
        bench.must("checkpoint", "export", f"{folder}/checkpoints/{newest}", f"{name}.safetensors", "--tower", "vision")
    for what, other in (("tokenizer", another_tokenizer), ("weights", another_tower)):
        done = apart(bench, what, other)
        check(f"other {what} on a host are named", done.returncode == COMMUNICATION and what in "".join(said(done)), said(done))
    done = apart(bench, "same", lambda folder: None)
    check("a run from files of two disks that are the same begins", done.returncode == 0, "" if done.returncode == 0 else said(done))


def main(vlgtr, library):
    with Far(vlgtr, library) as bench:
        bench.make_data()
        bench.train(1, {"run.folder": "want"})
        want = bench.hashes("want")
        stores(bench, want)
        absent_before(bench, want)
        passing(bench, want)
        refused(bench, want)
        of_a_group(bench)
        files_of_hosts(bench)
    print(f"{check.bad} faults")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
