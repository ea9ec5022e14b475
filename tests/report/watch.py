#!/usr/bin/env python3
"""What a run shows to those who watch: metrics.prom as Prometheus reads it, event files as TensorBoard reads them. With
`--tools`, promtool and TensorBoard themselves look too (VLGTR_PYTHON names a python with tensorboard).

usage: watch.py VLGTR [--tools]"""

import math
import os
import pathlib
import pickle
import re
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST, STOPPED = 30, 75
# Of each row: its key, and name and factor in metrics.prom.
METRICS = re.findall(r'^VG_METRIC\((\w+), "(\w+)", ([\d.e-]+),',
                     (pathlib.Path(__file__).resolve().parents[2] / "trainer/metrics.def").read_text(), re.M)
check = harness.Check()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(message):
    """Field number and value of each field of a Protocol Buffers message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        size = {0: None, 1: 8, 2: None, 5: 4}[key & 7]
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = size or varint()
        yield key >> 3, message[at : at + size]
        at += size


def events(path):
    """Step and {tag: value} of each event; every length and CRC is checked."""
    data, at, found = pathlib.Path(path).read_bytes(), 0, []
    while at < len(data):
        length, of_length = struct.unpack_from("<QI", data, at)
        message = data[at + 12 : at + 12 + length]
        assert of_length == masked(data[at : at + 8]) and struct.unpack_from("<I", data, at + 12 + length)[0] == masked(message)
        at += 16 + length
        event = dict(fields(message))
        value = dict(fields(dict(fields(event[5]))[1])) if 5 in event else {}
        found.append((event.get(2, 0), {value[1].decode(): struct.unpack("<f", value[2])[0]} if value else {}, 7 in event))
    return found


def curves(bench):
    """Tag to {step: value}; a file's first event says from which step on older ones no longer count."""
    have = {}
    for path in sorted(pathlib.Path(bench.path("run", "tensorboard")).iterdir(), key=lambda p: p.stat().st_mtime_ns):
        for step, value, restart in events(path):
            for tag in have if restart else ():
                have[tag] = {s: v for s, v in have[tag].items() if s < step}
            for tag, number in value.items():
                have.setdefault(tag, {})[step] = number
    return have


def gauges(bench):
    text = pathlib.Path(bench.path("run", "metrics.prom")).read_text()
    lines = text.splitlines()
    shape = re.compile(r"# HELP (\w+) .+\n# TYPE \1 gauge\n\1\{run=\"run\"\} \S+")
    whole = all(shape.fullmatch("\n".join(lines[i : i + 3])) for i in range(0, len(lines), 3))
    return whole, {line.split("{")[0]: float(line.split()[-1]) for line in lines[2::3]}


def look_with_tools(bench):
    python = os.environ.get("VLGTR_PYTHON", "python3")
    done = subprocess.run(f"promtool check metrics <{bench.path('run', 'metrics.prom')}", shell=True, capture_output=True, text=True)
    check("promtool has nothing to say", done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr)
    read = ("import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as A; "
            "a = A(sys.argv[1]); a.Reload(); print([e.step for e in a.Scalars('loss')], len(a.Tags()['scalars']))")
    done = subprocess.run([python, "-c", read, bench.path("run", "tensorboard")], capture_output=True, text=True)
    check("TensorBoard shows every step once", done.stdout.startswith(str(list(range(1, LAST + 1)))), done.stdout[-20:] + done.stderr[-300:])


def cut_phrases(bench):
    """Phrases that are longer than the encoder reads are counted, in training and evaluation."""
    dataset = pathlib.Path(bench.path("data", "synth"))
    refs = pickle.loads((dataset / "refs(vlgtr).p").read_bytes())
    n_tokens = {s["sent"]: len(bench.must("tokenize", "--tokenizer", "data/tokenizer", s["sent"]).split())
                for r in refs for s in r["sentences"]}
    cut = {split: sum(n_tokens[s["sent"]] > 8 for r in refs if r["split"] == split for s in r["sentences"]) for split in ("train", "val")}
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "cut", "text.max_tokens": 8, "schedule.heads.steps": 1, "schedule.blocks.steps": 1}))
    counts = [int(n) for n in re.findall(r"^(\d+) of \d+ phrases in \w+ have more than 8 tokens", done.stderr, re.M)]
    check("phrases that are cut are counted", done.returncode == 0 and counts == [n for n in cut.values() if n] and cut["train"] > 0, f"{cut} {counts}")
    check("and a metric", [r["cut_phrases"] for r in bench.records("cut") if "cut_phrases" in r] == [cut["train"]])
    told = bench.must("eval", "cut", "--split", "train")
    check("eval counts them, too", f"{cut['train']} of the phrases have more than 8 tokens" in told, told[-200:])


def main(vlgtr, tools=None):
    options = {"run.checkpoint_every": 7, "run.eval_every": 10}
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        stopped = bench.run("train", "run.yaml", *bench.sets(options), "--inject", "ask@0,12")
        check("the first run stops", stopped.returncode == STOPPED, stopped.returncode)
        bench.train(2, options)
        have, records = curves(bench), bench.records("run")
        told = [row for row in METRICS if any(row[0] in r for r in records)]
        for tag, *_ in told:
            want = {r["step"]: r[tag] for r in records if tag in r}
            same = have[tag].keys() == want.keys() and all(abs(have[tag][s] - v) <= 1e-6 * abs(v) for s, v in want.items())
            check(f"the curve of {tag} is that of metrics.jsonl", same and want, f"{len(want)} values")
        again = bench.run("train", "run.yaml", *bench.sets(options))
        check("a finished run that is started again says so", again.returncode == 0 and
              f"the run is finished: step {LAST} is its last" in again.stderr, again.stderr[-200:])
        check("and does and writes nothing more", bench.records("run") == records and curves(bench) == have)
        whole, now = gauges(bench)
        check("metrics.prom is whole", whole, f"{len(now)} gauges")
        newest = {name: [r[tag] for r in records if tag in r][-1] * float(factor) for tag, name, factor in told}
        other = [n for n, v in newest.items() if abs(now.get(f"vlgtr_{n}", math.inf) - v) > 1e-6 * abs(v)]
        check("and has the newest numbers", now["vlgtr_step"] == LAST and not other, other)
        cut_phrases(bench)
        if tools:
            look_with_tools(bench)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
