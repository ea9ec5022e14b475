#!/usr/bin/env python3
"""An import that is killed, or has no room on its disk, goes on where it was and ends with the bytes it would have had;
records that cannot be used are set aside by name.

usage: import_damage.py VLGTR"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import generated_genome
import harness

DATA, STORAGE, STOPPED = 65, 74, 75
REGIONS = 270_000  # shards are cut at 131072 sentences, so there are three
IMPORT = ("shard", "import", "vg", "genome")
check = harness.Check()


def shards(bench, out):
    """The finished ones: inode and bytes by name."""
    files = sorted(pathlib.Path(bench.path(out)).glob("*.h5"))
    return {f.name: (f.stat().st_ino, f.read_bytes()) for f in files}


def same_bytes(a, b):
    return {n: v[1] for n, v in a.items()} == {n: v[1] for n, v in b.items()}


def only_shards(bench, out):
    return all(name.endswith(".h5") for name in os.listdir(bench.path(out)))


def refused(bench, out):
    """What is not whole is refused as a folder by all that read shards."""
    done = [bench.run(*words) for words in (("shard", "inspect", out), ("shard", "verify", out), ("shard", "merge", "never", out),
                                            ("train", "run.yaml", *bench.sets({"data.shards": out})))]
    return all(d.returncode == DATA and len(lines_of(d)) == 1 and f"{out}: not all of its shards are there, says vg.unfinished" in d.stderr
               for d in done)


def lines_of(done):
    return [l for l in done.stderr.splitlines() if l.startswith("vlgtr")]


def killed(bench, whole):
    """Killed without warning as soon as n shards are finished, for each n."""
    for n in range(1, len(whole)):
        process = bench.start(*IMPORT, "killed", "--allow-absent-images")
        last = bench.path("killed", f"vg-{n - 1:05d}.h5")
        while process.poll() is None and not os.path.exists(last):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        left = shards(bench, "killed")
        check(f"killed: {len(left)} finished shards, whole ones", len(left) >= n and left.items() and
              all(whole[name][1] == data for name, (_, data) in left.items()))
    check("killed: the folder is refused", refused(bench, "killed"))
    told = bench.must(*IMPORT, "killed", "--allow-absent-images")
    now = shards(bench, "killed")
    check("killed and started again: the bytes of an import in one go", same_bytes(now, whole))
    check("what was finished was kept, not written again", all(now[name][0] == inode for name, (inode, _) in left.items())
          and f"{len(left)} of them were finished before and kept" in told)
    check("nothing half-written is left", only_shards(bench, "killed"))


def stopped(bench):
    """Asked to stop while annotations are read, which takes long before the first shard."""
    process = subprocess.Popen(bench.command(0, *IMPORT, "stopped", "--allow-absent-images"), cwd=bench.folder, text=True,
                               env=bench.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not os.path.isdir(bench.path("stopped")):
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    done = subprocess.CompletedProcess([], 0, *process.communicate())
    check(f"stopped while it reads: {lines_of(done)}", process.returncode == STOPPED and len(lines_of(done)) == 1
          and not os.path.exists(bench.path("stopped")))


def limited(bench, out, most_bytes):
    """A limit on file sizes stands in for a full disk where a small one cannot be mounted."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return bench.run(*IMPORT, out, "--allow-absent-images", preexec_fn=limit)


def no_room(bench, whole):
    done = limited(bench, "limit", 1 << 20)
    check(f"no room to sort: {lines_of(done)}", done.returncode == STORAGE and len(lines_of(done)) == 1
          and "the file to sort in" in done.stderr and not os.path.exists(bench.path("limit")))
    mounted_no_room(bench, whole)


def mounted_no_room(bench, whole):
    """On a disk with room for sorting and less than all shards."""
    disk = bench.path("disk")
    os.makedirs(disk)
    room = int(1.6 * len(whole["vg-00000.h5"][1]))
    script = (f"mount -t tmpfs -o size={room} none {disk} && cd {bench.folder} && "
              f"{' '.join(bench.vlgtr)} {' '.join(IMPORT)} disk/out --allow-absent-images; code=$?; "
              f"mkdir -p left && cp disk/out/* left/ && exit $code")
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        print("--  full disk: no small disk can be mounted here; not tried")
        return
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True,
                          env=bench.environment())
    left = shards(bench, "left")
    check(f"full disk: {lines_of(done)}", done.returncode == STORAGE and len(lines_of(done)) == 1
          and "No space left on device" in done.stderr)
    check(f"full disk: {len(left)} finished shards are whole, nothing half-written is left but the mark",
          set(os.listdir(bench.path("left"))) == {*left, "vg.unfinished"} and all(whole[name][1] == data for name, (_, data) in left.items()))
    os.rename(bench.path("left"), bench.path("room"))
    told = bench.must(*IMPORT, "room", "--allow-absent-images")
    check("with room again it goes on and ends with the same bytes", same_bytes(shards(bench, "room"), whole)
          and f"{len(left)} of them were finished before" in told)


def broken_records(bench):
    """The promised outcome of records that cannot be used: a line each, the rest imported; the first one with --strict."""
    picture = sorted(pathlib.Path(bench.path("data", "images")).iterdir())[0].name
    good = [dict(image=picture, phrase=f"phrase {i}", box=[1, 1, 9 + i, 9]) for i in range(40)]
    bad = {
        "NaN box": '{"image": "%s", "phrase": "a", "box": [1, NaN, 2, 2]}' % picture,
        "negative size": json.dumps(dict(image=picture, phrase="a", bbox=[9, 9, -4, 4])),
        "an id given twice": "\n".join(json.dumps(dict(image=picture, phrase="a", box=[1, 1, 2, 2], id=777)) for _ in "ab"),
        "an absent image": json.dumps(dict(image="nowhere.jpg", phrase="a", box=[1, 1, 2, 2])),
        "no JSON": '{"image": ',
    }
    for what, line in bad.items():
        bench.write("own.jsonl", "\n".join(map(json.dumps, good)) + "\n" + line + "\n")
        words = ("shard", "import", "jsonl", "own.jsonl")
        done = bench.run(*words, "own", "--images", "data/images", "--max-bad", "0.05")
        strict = bench.run(*words, "strict", "--images", "data/images", "--strict")
        wanted = len(good) + (what == "an id given twice")
        check(f"{what}: set aside, {wanted} phrases imported", done.returncode == 0 and "1 sentences set aside" in done.stdout
              and f" {wanted} " in done.stdout.splitlines()[1])
        check(f"{what}, --strict: {lines_of(strict)}", strict.returncode == DATA and len(lines_of(strict)) == 1)
        shutil.rmtree(bench.path("own"), ignore_errors=True)


def absent_images(bench):
    """Shards of annotations alone are whole, and refused by a training."""
    verified, trained = bench.run("shard", "verify", "whole"), bench.run("train", "run.yaml", *bench.sets({"data.shards": "whole", "data.eval_split": "train"}))
    check(f"absent images, verify: {verified.stdout.strip()}", verified.returncode == 0 and "images absent" in verified.stdout)
    check(f"absent images, train: {lines_of(trained)}", trained.returncode == DATA and len(lines_of(trained)) == 1
          and "are absent; import the set again with its images" in trained.stderr)


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        generated_genome.write(bench.path("genome"), REGIONS)
        bench.must(*IMPORT, "whole", "--allow-absent-images")
        whole = shards(bench, "whole")
        check(f"{len(whole)} shards", len(whole) == 3)
        bench.make_data(train=4)
        killed(bench, whole)
        stopped(bench)
        no_room(bench, whole)
        broken_records(bench)
        absent_images(bench)
    print(f"{check.bad} faults")
    sys.exit(1 if check.bad else 0)


main(sys.argv[1])
