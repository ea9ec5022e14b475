#!/usr/bin/env python3
"""The bits of the weights depend on seed, configuration and data alone.

usage: same_bits.py VLGTR [KILLS]"""

import os
import pathlib
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST = 30


def kill_and_resume(bench, want, trial, chance):
    """SIGKILL at a random step, then on with another number of ranks, until the end."""
    folder, ranks, kills = f"killed{trial}", chance.choice([1, 2, 3]), 0
    options = {"run.folder": folder, "run.checkpoint_every": 3}
    stop_at = chance.randint(2, LAST - 2)
    process = bench.start("train", "run.yaml", *bench.sets(options), ranks=ranks)
    while process.poll() is None:
        steps = [r["step"] for r in bench.records(folder)] if os.path.exists(bench.path(folder, "metrics.jsonl")) else []
        if steps and max(steps) >= stop_at:
            os.killpg(process.pid, signal.SIGKILL)
            kills = 1
            break
        time.sleep(0.005)
    process.wait()
    bench.kill_left()
    again = chance.choice([r for r in (1, 2, 3, 4) if r != ranks])
    bench.train(again, options)
    same = bench.hashes(folder)[LAST] == want
    print(f"killed near step {stop_at} on {ranks} ranks{'' if kills else ' (it had finished)'}, resumed on {again}: "
          f"{'same' if same else 'OTHER'} bits", flush=True)
    return same


def answers(bench, folder, ranks):
    """Boxes and scores of every sentence of val, as eval writes them."""
    bench.must("eval", folder, "--out", "answers.jsonl", "--device", "cpu", ranks=ranks)
    return pathlib.Path(bench.path("answers.jsonl")).read_text()


def keep_average(bench, want):
    """A running average leaves the weights as they are, has the same bits on any number of ranks, also when a run is
    taken up again from a checkpoint, and is what answers."""
    average = {"train.average_decay": 0.9, "run.checkpoint_every": 10}
    for ranks, folder in ((1, "average1"), (2, "average2")):
        bench.train(ranks, {"run.folder": folder, **average})
    shutil.rmtree(bench.path("average2", "checkpoints", "step-00000030"))
    bench.train(3, {"run.folder": "average2", **average})
    same = all(bench.hashes(folder)[LAST] == want for folder in ("average1", "average2"))
    one, other, without = answers(bench, "average1", 1), answers(bench, "average2", 2), answers(bench, "r1t1", 1)
    print(f"with a running average: weights {'same' if same else 'OTHER'}; answers on other ranks and after a resume "
          f"{'same' if one == other else 'OTHER'}, those of the weights themselves {'differ' if one != without else 'DO NOT DIFFER'}")
    return same and one == other and one != without


def mix(bench, plain):
    """Two sets with weights, other weights in the second stage, and pictures of several sides: the same bits on 1 and 3 ranks, and when one run is taken up
    again by another number of ranks; other bits than without."""
    bench.must("synth", "more", "--train", "12", "--val", "2", "--test", "2", "--side", "64", "--seed", "9")
    bench.must("shard", "import", "synth", "more", "more-shards")
    options = {"data.sets": "a=shards,b=more-shards", "schedule.heads.mix": "a=2,b=3", "schedule.blocks.mix": "a=0,b=1",
               "schedule.heads.sides": "24,40,32", "schedule.blocks.sides": "40,16", "run.checkpoint_every": 10}
    for ranks, folder in ((1, "mix1"), (2, "mix2")):
        bench.train(ranks, {"run.folder": folder, **options})
    for step in (20, 30):
        shutil.rmtree(bench.path("mix2", "checkpoints", f"step-{step:08}"))
    bench.train(3, {"run.folder": "mix2", **options})
    one, other = bench.hashes("mix1")[LAST], bench.hashes("mix2")[LAST]
    print(f"two sets mixed and several sides, taken up again on other ranks: {'same' if one == other else 'OTHER'} bits; those of one set "
          f"{'differ' if one != plain else 'DO NOT DIFFER'}", flush=True)
    return one == other and one != plain


def leaks(bench):
    """After `mix`, whose sets number their images alike: images that the other set evaluates on are left out as by hand, and told; kept, where that is
    asked for, they give other bits."""
    mixed = {"data.sets": "a=shards,b=more-shards", "schedule.heads.mix": "a=2,b=3", "schedule.blocks.mix": "a=0,b=1", "schedule.heads.steps": 8,
             "schedule.blocks.steps": 1}
    for one, other in (("shards", "more-shards"), ("more-shards", "shards")):
        bench.run("shard", "leakage", one, "--against", other, "--by", "id", "--out", f"{one}.jsonl")
    bench.write("both.jsonl", "".join(pathlib.Path(bench.path(f"{name}.jsonl")).read_text() for name in ("shards", "more-shards")))
    bench.train(2, {"run.folder": "out", **mixed})
    bench.train(1, {"run.folder": "by-hand", "data.leaked": "keep", "data.without": "both.jsonl", **mixed})
    bench.train(1, {"run.folder": "kept", "data.leaked": "keep", **mixed})
    told = {folder: pathlib.Path(bench.path(folder, "log.txt")).read_text() for folder in ("out", "by-hand", "kept")}
    line = "6 images of train in shards (synth by vlgtr) stand in val, testA, testB of more-shards (synth by vlgtr): "
    good = (line + "left out; data.leaked=keep trains on them" in told["out"] and line + "trained on" in told["kept"] and "stand in" not in told["by-hand"])
    same, other = bench.hashes("out") == bench.hashes("by-hand"), bench.hashes("out") != bench.hashes("kept")
    records = [r["leaked_images"] for r in bench.records("out") if "leaked_images" in r]
    print(f"images that another set evaluates on ({records}), left out: {'told' if good else 'NOT TOLD'}, "
          f"{'same' if same else 'OTHER'} bits as without them; kept: bits {'differ' if other else 'DO NOT DIFFER'}", flush=True)
    return good and same and other and records == [6]


def main(vlgtr, kills):
    good, chance = True, random.Random(7)
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        runs = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (2, 2)]
        for ranks, threads in runs:
            folder = f"r{ranks}t{threads}"
            buckets = {"train.bucket_mb": 0.02 / ranks}  # of other sizes: they do not show either
            bench.train(ranks, {"run.folder": folder, "train.threads": threads, **buckets})
        want = bench.hashes("r1t1")
        for ranks, threads in runs:
            records = [r for r in bench.records(f"r{ranks}t{threads}") if "rank_phrases" in r]
            whole = all(sum(r["rank_phrases"]) == r["phrases"] and len(r["rank_phrases"]) == ranks for r in records)
            same = bench.hashes(f"r{ranks}t{threads}") == want and len(want) == LAST
            print(f"{ranks} ranks, {threads} threads: {'same' if same else 'OTHER'} bits at every step; phrases per rank "
                  f"{records[0]['rank_phrases']} add up to {records[0]['phrases']}: {whole}", flush=True)
            good &= same and whole and len(records) == LAST
        bench.train(2, {"run.folder": "anew", "features.phrases": "off", "data.cache_mb": 0, "data.workers": 3})
        anew = bench.hashes("anew") == want
        print(f"phrases encoded and pictures read anew in every step: {'same' if anew else 'OTHER'} bits", flush=True)
        good &= anew
        bench.train(2, {"run.folder": "often", "run.checkpoint_every": 0, "run.checkpoint_overhead": 0.5})
        saves = [r["step"] for r in bench.records("often") if "checkpoint_step" in r]
        often = bench.hashes("often") == want and len(saves) > 2
        print(f"saved as often as a bound on its overhead allows, after steps {saves}: {'same' if often else 'OTHER'} bits")
        good &= often
        bench.train(2, {"run.folder": "taken", "model.weights": "r1t1", "schedule.heads.steps": 1, "run.until": "heads",
                        "train.allow_from_scratch": "false"}, ("--inject", "nan@0,1"))
        taken = bench.hashes("taken")[1] == want[LAST]
        print(f"another run starts from these weights: {'same' if taken else 'OTHER'} bits after a step that is skipped")
        good &= taken
        for trial in range(kills):
            good &= kill_and_resume(bench, want[LAST], trial, chance)
        good &= keep_average(bench, want[LAST])
        good &= mix(bench, want[LAST])
        good &= leaks(bench)
        bench.train(1, {"run.folder": "seed", "train.seed": 2})
        other = bench.hashes("seed")[LAST] != want[LAST]
        print(f"another seed gives other bits: {other}; hash after {LAST} steps {want[LAST]}")
    return 0 if good and other else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))
