#!/usr/bin/env python3
"""Features of frozen towers kept on disk change no bit of the weights, whoever builds the stores and whatever happens to
them.

usage: stored_features.py VLGTR [--kills N]    builds that are killed at random moments and gone on with"""

import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST = 30
LARGE = {"data.side": 448, "schedule.0.steps": 2, "schedule.1.steps": 1}
STORED = {"features.images": "disk", "features.phrases": "disk"}
check = harness.Check()


def train(bench, folder, ranks=1, **options):
    """Weight hashes by step, and what the run said."""
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": folder, **options}), ranks=ranks)
    if done.returncode:
        raise SystemExit(f"{folder} ended with {done.returncode}:\n{done.stderr}")
    return bench.hashes(folder), done.stderr


def made(said, what):
    return f"{what} features of split" in said


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


def elsewhere(bench):
    """The name of a split, which comes with its shards, leads out of no folder."""
    bench.must("shard", "split", "odd", "shards", "--to", "../../odd", "--share", "0.5")
    train(bench, "odd-run", **STORED, **{"data.shards": bench.path("odd"), "data.train_split": "../../odd"})
    kept = sorted(p.name for p in pathlib.Path(bench.path("odd-run", "features")).iterdir())
    check("a split whose name leads elsewhere has its stores in the folder",
          kept == ["images-.._.._odd.h5", "phrases-.._.._odd-swapped.h5", "phrases-.._.._odd.h5", "phrases-val.h5"], kept)


def harm(bench, want):
    """Damaged, torn and foreign stores are found out, and named."""
    store = pathlib.Path(bench.path("r1", "features", "images-train.h5"))
    whole, middle = store.read_bytes(), store.stat().st_size // 2
    shared = {**STORED, "features.folder": str(store.parent)}

    flip(store, middle)
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "flipped", **shared}))
    check("a flipped bit in a row ends the run with code 74",
          done.returncode == 74 and "is not what was written" in done.stderr)

    os.rename(store, f"{store}.partial")  # as a build leaves it that a power cut ended: a torn row, the others whole
    hashes, said = train(bench, "resumed", 2, **shared)
    check("a build goes on from a torn row: same bits, same file",
          hashes == want and made(said, "image") and store.read_bytes() == whole)

    store.write_bytes(whole[:middle])
    hashes, said = train(bench, "short", **shared)
    check("a store cut short is made anew: same bits, same file",
          hashes == want and "it is made anew" in said and store.read_bytes() == whole)

    seed = {"train.seed": 2}
    other = train(bench, "seed-none", **seed)[0]
    hashes, said = train(bench, "seed", **seed, **shared)
    check("stores of other weights are named and made anew",
          hashes == other != want and "images-train.h5 has 'weights: " in said and "phrases-train.h5 has 'weights: " in said)
    hashes, said = train(bench, "side", **seed, **shared, **{"data.side": 64})
    check("a store of other pictures is named and made anew", "has 'picture: 32 x 32" in said and not made(said, "phrase"))

    hashes, said = train(bench, "nowhere", **STORED, **{"features.folder": bench.path("run.yaml", "below")})
    check("a folder that cannot be made is named, the step computes: same bits",
          hashes == want and "the steps compute image features themselves" in said)


def rounded(bench, want):
    """bf16 stores: half the size, other bits, the same on any number of ranks; never replaced by computing."""
    half = {**STORED, "features.dtype": "bf16"}
    one, two = (train(bench, f"half{r}", r, **half)[0] for r in (1, 2))
    full, small = (os.path.getsize(bench.path(f, "features", "images-train.h5")) for f in ("r2", "half1"))
    check(f"bf16 stores: {small} bytes for {full}, bits of their own on 1 and 2 ranks",
          one == two != want and small < 0.6 * full)
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "half", "features.max_gb": 1e-5, **half}))
    check("a bf16 store that is refused ends the run with code 78",
          done.returncode == 78 and "bf16 needs the store" in done.stderr)


def views(bench, want):
    """Augmented pictures in fixed views: the bits of a store are those of augmenting in every step."""
    fixed = {"schedule.0.crop": 0.5, "schedule.0.flip": 0.5, "schedule.0.colour": 0.5, "features.views": 2}
    hashes = train(bench, "views-none", **fixed)[0]
    stored, said = train(bench, "views", 2, **fixed, **STORED)
    anew = train(bench, "views-anew", **{**fixed, **STORED, "features.views": 0})
    check("two views of each augmented image, in a store: same bits", stored == hashes and made(said, "image"))
    check("others than of plain pictures, or of new views each time",
          hashes != want and anew[0] != hashes and not made(anew[1], "image"))
    later = {"schedule.1.unfreeze_blocks": 0, "features.views": 3}  # plain pictures first, then three views of each
    hashes = train(bench, "later-none", **later)[0]
    stored, said = train(bench, "later", 2, **later, **STORED)
    check("a store of plain pictures, then one of views: same bits, no row of one is looked for in the other",
          stored == hashes and said.count("image features of split") == 2 and "left out" not in said)
    again, said = train(bench, "later-again", **later, **STORED, **{"features.folder": bench.path("later", "features")})
    check("each has a file of its own, so a second run makes neither anew", again == hashes and not made(said, "image"))
    told = bench.must("plan", "run.yaml", *bench.sets({**fixed, **STORED, "features.views": 0}))
    for number, name, why in ((0, "heads", "it augments, and features.views is 0"), (1, "blocks", "it trains the vision tower")):
        says = f"computes image features in every step: {why}"
        check(f"why the stage {name} has no store of images is said", f"stage '{name}' {says}" in anew[1] and f"stage {number} {says}" in told)
    sizes = [os.path.getsize(bench.path(*path)) for path in (("r1", "features", "images-train.h5"),
                                                             ("views", "features", "images-train-views2.h5"))]
    check(f"the store has twice the size: {sizes[1]} bytes for {sizes[0]}", 1.9 < sizes[1] / sizes[0] < 2.1)


def rows_done(path):
    """Bytes of the file that are not 0, as a measure of how far a build is."""
    try:
        return len(pathlib.Path(path).read_bytes().replace(b"\0", b""))
    except OSError:
        return 0


def one_rank_ends_it(bench, what, disturb, code, word):
    """While two ranks build, something happens to one of them: both leave the build with most of it undone."""
    folder = what.replace(" ", "-")
    options = {**STORED, **LARGE, "features.dtype": "bf16", "run.folder": folder}
    partial = bench.path(folder, "features", "images-train.h5.partial")
    process = subprocess.Popen(bench.command(2, "train", "run.yaml", *bench.sets(options)), cwd=bench.folder,
                               env=bench.environment(2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.time() + 60
    while process.poll() is None and time.time() < until and rows_done(partial) == 0:
        time.sleep(0.002)
    disturb(bench.processes()[1])
    said = process.communicate()[1]
    done = rows_done(partial) / os.path.getsize(partial)
    check(f"{what}: code {process.returncode}, {done:.0%} of the rows were made",
          process.returncode == code and word in said and done < 0.4)


def full_disk(pid):
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, 4096))


def kill_and_go_on(bench, trial, chance):
    """SIGKILL in the middle of a build on some ranks, then the same run on others; larger pictures make it last."""
    large = {**STORED, **LARGE, "run.folder": f"killed{trial}"}
    ranks = chance.sample([1, 2, 3], 2)
    partial = bench.path(f"killed{trial}", "features", "images-train.h5.partial")
    process = bench.start("train", "run.yaml", *bench.sets(large), ranks=ranks[0])
    enough, until = chance.randint(1, 8_000_000), time.time() + 60
    while process.poll() is None and time.time() < until and rows_done(partial) < enough:
        time.sleep(0.002)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        bench.kill_left()  # some rows later they would see it gone
    process.wait()
    done = rows_done(partial)
    hashes, said = train(bench, f"killed{trial}", ranks[1], **{k: v for k, v in large.items() if k != "run.folder"})
    return hashes, done > 0 and made(said, "image"), done


def kill(bench, kills):
    chance = random.Random(11)
    want = train(bench, "large-none", **LARGE)[0] if kills else None
    for trial in range(kills):
        hashes, in_time, done = kill_and_go_on(bench, trial, chance)
        check(f"a build killed when {done} bytes were there, gone on with on other ranks: same bits",
              hashes == want and in_time)


def main(vlgtr, *more):
    kills = int(more[1]) if more else 0
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        want, said = train(bench, "none", **{"features.phrases": "off"})
        check("the run without any store has a hash for every step", len(want) == LAST and not made(said, "image"))
        check("phrases kept in memory: same bits", train(bench, "memory")[0] == want)
        for ranks in (1, 2, 3):
            hashes, said = train(bench, f"r{ranks}", ranks, **STORED)
            check(f"stores built by {ranks} ranks: same bits", hashes == want and made(said, "image") and made(said, "phrase"))
        one, two = (pathlib.Path(bench.path(f, "features", "images-train.h5")).read_bytes() for f in ("r1", "r3"))
        check("1 and 3 ranks make the same file", one == two)
        shared = {**STORED, "features.folder": bench.path("r1", "features")}
        hashes, said = train(bench, "shared", 2, **shared)
        check("a second run takes the stores of the first: same bits",
              hashes == want and not made(said, "image") and not made(said, "phrase"))
        hashes, said = train(bench, "large", **STORED, **{"features.max_gb": 1e-5})
        check("a store above features.max_gb is refused, the step computes: same bits",
              hashes == want and "max_gb" in said and not made(said, "image"))
        said = train(bench, "alike", **STORED, **{"features.max_gb": 1e-6, "schedule.blocks.flip": 0})[1]
        told = [said.count(f"phrases-{split}.h5 would take") for split in ("train", "val")]
        check("which is said once of a store that two stages want", told == [1, 1], f"{told}")
        plans = [bench.must("plan", "run.yaml", *bench.sets({**STORED, "features.max_gb": gb})) for gb in (1, 1e-5)]
        check("`plan` tells of stores that are made and of one that is refused",
              "stage 0 reads image features from a store" in plans[0] and re.search(r"a store of \d+\.\d kB is above", plans[1]), plans[1])
        one_rank_ends_it(bench, "one rank is asked to stop", lambda pid: os.kill(pid, signal.SIGUSR1), 75, "stopped on request")
        one_rank_ends_it(bench, "the disk of one rank is full", full_disk, 78, "bf16 needs the store")
        views(bench, want)
        elsewhere(bench)
        harm(bench, want)
        rounded(bench, want)
        kill(bench, kills)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
