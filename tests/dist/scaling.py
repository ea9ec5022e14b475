#!/usr/bin/env python3
"""`vlgtr bench comm --out` measures a network, `vlgtr plan --ranks A..B --network` reads it: rows, sums, the plot, and what
is said of arguments that make no sense. Ranks that share no memory stand for hosts.

usage: scaling.py VLGTR"""

import json
import math
import pathlib
import sys
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

USAGE, DATA, STORAGE, CONFIG = 64, 65, 74, 78
check = harness.Check()


def rows(text):
    """The lines of numbers, as lists."""
    found = []
    for line in text.splitlines():
        try:
            found.append([float(word) for word in line.split()])
        except ValueError:
            pass
    return [row for row in found if len(row) == 9]


def measured(bench):
    bench.environment = lambda ranks=0, of=bench.environment: {**of(ranks), "VLGTR_WINDOW_RANKS": "1"}
    bench.must("bench", "comm", "--mb", "8", "--out", "net.json", ranks=2)
    net = json.loads(pathlib.Path(bench.path("net.json")).read_text())
    check("two hosts are measured", net["host_ranks"] == 1 and net["message_us"] >= 0 and net["host_gb_s"] > 0, net)
    return net


def tables(bench, net):
    words = ["plan", "run.yaml", "--network", "net.json", "--step-ms", "80,120", "--plot", "curves.svg"]
    text = bench.must(*words, "--ranks", "2..16")
    table = rows(text)
    ranks = [row[0] for row in table]
    check("the batch grows with the ranks, or stays and bounds them", ranks == 2 * [2, 4, 8, 16, 2, 4, 8], ranks)
    grows, stays = table[:4], table[4:7]
    check("hosts of one rank each", all(row[1] == row[0] for row in table))
    check("a step of 8 micro-batches in 80 ms", [r[3] for r in grows] == 4 * [40] and [r[3] for r in stays] == [40, 20, 10])
    megabytes = float(text.split(" MB of gradients")[0].split()[-1])
    message = net["message_us"] / 1e3
    # two rounds, counts and losses; to one other
    want = 4 * message + megabytes / net["host_gb_s"]
    check("the exchange is as measured", math.isclose(table[0][4], want, rel_tol=0.02, abs_tol=0.06), f"{table[0][4]} ms, {want:.2f} wanted")
    check("a step is computing and what is exposed", all(math.isclose(r[6], r[3] + r[5], abs_tol=0.011) for r in table))
    check("images a second", all(math.isclose(r[7], 1e3 * r[2] / r[6], rel_tol=0.01) for r in table))
    check("efficiency", all(math.isclose(r[8], r[3] / r[6], abs_tol=0.002) for r in table))
    plot = xml.parse(bench.path("curves.svg")).getroot()
    lines = [len(e.get("points").split()) for e in plot.iter("{http://www.w3.org/2000/svg}polyline")]
    check("two charts for each stage", lines == 2 * [4, 3, 4, 4, 3], lines)


def gpus(bench):
    own = bench.must("plan", "run.yaml", "--gpu", "h100", "--ranks", "1..4", "--set", "train.precision=bf16")
    text = bench.must("plan", "run.yaml", "--gpu", "h100", "--ranks", "4", "--set", "train.precision=bf16")
    step = next(line.split()[1] for line in text.splitlines() if line.startswith("  bf16:"))
    check("on GPUs the step is that of the forecast for these ranks", rows(own)[5][6] == float(step), f"{rows(own)[5][6]} {step}")
    slow = bench.must("plan", "run.yaml", "--gpu", "h100", "--ranks", "16..32", "--network", "10gbe")
    fast = bench.must("plan", "run.yaml", "--gpu", "h100", "--ranks", "16..32", "--network", "ndr8")
    check("a slower network takes longer", rows(slow)[1][4] > rows(fast)[1][4] > 0)


def hosts(bench):
    """Without a GPU to plan for, the plan is a CPU's, and says so."""
    fp32, bf16 = (bench.must("plan", "run.yaml", "--ranks", "2", "--set", f"train.precision={p}").splitlines() for p in ("fp32", "bf16"))
    planned = [[line for line in plan if line.startswith("  activations")] for plan in (fp32, bf16)]
    check("a plan for bf16 without --gpu is one for a CPU in fp32", "in fp32" in fp32[0] and "--gpu" in bf16[0]
          and bf16[1] == fp32[0] and planned[0] == planned[1] and planned[0], bf16[:2])


def bad_input(bench):
    bench.write("half.json", '{"host_ranks": 1, "message_us": 5}')
    good = ["--ranks", "1..4", "--network", "10gbe", "--step-ms", "80,120"]
    for code, named, words in (
        (USAGE, "--network NAME", ["--ranks", "1..4", "--step-ms", "80,120"]),
        (USAGE, "known are: 10gbe", ["--ranks", "1..4", "--network", "11gbe", "--step-ms", "80,120"]),
        (USAGE, "--gpu NAME or from --step-ms", ["--ranks", "1..4", "--network", "10gbe"]),
        (USAGE, "--gpu NAME or from --step-ms", [*good, "--gpu", "h100"]),
        (USAGE, "--step-ms: '80'", ["--ranks", "1..4", "--network", "10gbe", "--step-ms", "80"]),
        (USAGE, "--step-ms: '80,x'", ["--ranks", "1..4", "--network", "10gbe", "--step-ms", "80,x"]),
        (USAGE, "not a whole number from 4", ["--ranks", "4..1", *good[2:]]),
        (USAGE, "--ranks: 'x'", ["--ranks", "x..4", *good[2:]]),
        (USAGE, "--ranks 8..1024", good[2:]),
        (USAGE, "more than one number of ranks", ["--ranks", "4", *good[2:], "--plot", "one.svg"]),
        (USAGE, "--host-ranks: '0'", [*good, "--host-ranks", "0"]),
        (CONFIG, "16 ranks on a host", [*good, "--host-ranks", "16"]),
        (DATA, "half.json: 'host_gb_s'", ["--ranks", "1..4", "--network", "half.json", "--step-ms", "80,120"]),
        (STORAGE, "absent/curves.svg", [*good, "--plot", "absent/curves.svg"]),
    ):
        done = bench.run("plan", "run.yaml", *words)
        said = done.stderr.strip()
        check(" ".join(words), done.returncode == code and named in said and "\n" not in said, said)
    done = bench.run("bench", "comm", "--mb", "8", "--out", "absent/net.json", ranks=2)
    check("a network that cannot be written", done.returncode == STORAGE and "absent/net.json" in done.stderr, done.returncode)


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        tables(bench, measured(bench))
        gpus(bench)
        hosts(bench)
        bad_input(bench)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
