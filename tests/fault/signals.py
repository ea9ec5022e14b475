#!/usr/bin/env python3
"""A run that is asked to stop, whenever and however that comes, leaves with 75 from a checkpoint; the same command goes on,
and weights and evaluations are those of a run that nobody disturbed.

usage: signals.py VLGTR"""

import contextlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST, STAGE_END, STOPPED = 30, 16, 75
# Accuracy that tells an average from the weights it is of, at the end of a stage, too.
EVALUATED = {"run.eval_every": 4, "run.checkpoint_every": 100, "train.average_decay": 0.9, "data.eval_split": "train"}
check = harness.Check()


def outcome(bench, folder):
    """What a run leaves: the weights at every step, and the accuracy wherever it was measured."""
    accuracy = {r["step"]: r["acc50"] for r in bench.records(folder) if "acc50" in r}
    return bench.hashes(folder), accuracy


def manifests(bench, folder):
    found = sorted(pathlib.Path(bench.path(folder, "checkpoints")).glob("*/manifest.json"))
    return [json.loads(path.read_text()) for path in found]


def go_on(bench, what, folder, want, ranks, options):
    bench.train(ranks, options)
    have = outcome(bench, folder)
    check(f"{what}: the run that goes on ends like the undisturbed one", have == want,
          f"{len(have[0])} hashes, {len(have[1])} evaluations")
    kept = manifests(bench, folder)
    check(f"{what}: each checkpoint tells the accuracy of its step", all(
        {k: v for k, v in m["numbers"].items() if k not in ("train_data", "tokenizer")}
        == ({"acc50": have[1][m["step"]]} if m["step"] in have[1] else {}) for m in kept),
        f"{[(m['step'], m['numbers']) for m in kept]}")


def stop(bench, what, folder, step, send, want, expected=STOPPED, ranks=2, words=()):
    """Trains until `step`, sends, and goes on."""
    options = {"run.folder": folder, **EVALUATED}
    process = bench.start("train", "run.yaml", *bench.sets(options), *words, ranks=ranks)
    running = bench.wait_for_step(step, folder, process)
    if running:
        send(process)
    code = process.wait(timeout=60)
    said = pathlib.Path(bench.path(folder, "log.txt")).read_text().count("stopped ")
    check(what, running and code == expected and said == 1, f"{code}")
    go_on(bench, what, folder, want, 5 - ranks, options)


def has(pid, field, number):
    """Whether this signal stands in SigBlk or SigCgt of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith(field))
    return int(mask, 16) >> (number - 1) & 1


def to_one(bench, rank, times, number=signal.SIGTERM):
    def send(process):
        while not (rank in bench.processes() and has(bench.processes()[rank], "SigCgt", number)):
            time.sleep(0.002)
        for _ in range(times):
            pid = bench.processes().get(rank)
            if pid:
                os.kill(pid, number)
            time.sleep(0.02)
    return send


def nohup(bench, want):
    """Whoever asked to be spared the closed terminal is."""
    process = bench.start("train", "run.yaml", *bench.sets({"run.folder": "nohup", **EVALUATED}), before=["nohup"])
    bench.wait_for_step(4, "nohup", process)
    process.send_signal(signal.SIGHUP)
    code = process.wait(timeout=60)
    check("HUP under nohup is no news", code == 0 and outcome(bench, "nohup") == want, f"{code}")


def start_blocked(bench, number, *words):
    """A launcher that blocked a signal, which comes before the program is ready for it."""
    process = bench.start(*words, before=["env", f"--block-signal={signal.Signals(number).name[3:]}"])
    while not has(process.pid, "SigBlk", number):
        time.sleep(0.0005)
    process.send_signal(number)
    return process.wait(timeout=60)


def interrupt(bench):
    """^C says at a terminal, and there alone, what it does."""
    for terminal in (True, False):
        ours, theirs = pty.openpty() if terminal else os.pipe()
        process = subprocess.Popen(bench.command(0, "train", "run.yaml", "--set", f"run.folder=interrupt{terminal}"), cwd=bench.folder,
                                   env=bench.environment(), stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        bench.wait_for_step(3, f"interrupt{terminal}", process)
        process.send_signal(signal.SIGINT)
        said = b""
        with contextlib.suppress(OSError):  # so ends a terminal that nobody writes to
            while piece := os.read(ours, 1 << 16):
                said += piece
        os.close(ours)
        code = process.wait(timeout=60)
        check(f"^C {'at' if terminal else 'without'} a terminal", code == STOPPED and said.count(b"^C once more") == terminal, f"{code}")


def within_a_step(bench, want):
    """On the CPU nobody waits for the end of a step: it is dropped, wherever the ranks are in it, and taken anew."""
    for ranks, step, more in ((1, 7, {}), (2, 9, {"train.zero": "true"}), (2, STAGE_END + 1, {}), (4, LAST, {})):
        what, folder = f"asked within step {step} of {ranks} ranks", f"within{step}"
        options = {"run.folder": folder, **EVALUATED, **more}
        done = bench.run("train", "run.yaml", *bench.sets(options), "--inject", f"ask@{ranks - 1},{step}", ranks=ranks)
        check(what, done.returncode == STOPPED and f"stopped at step {step - 1} on request" in done.stderr
              and manifests(bench, folder)[-1]["step"] == step - 1, f"{done.returncode}")
        go_on(bench, what, folder, want, 3, options)
    done = bench.run("train", "run.yaml", "--set", "run.folder=first", "--inject", "ask@0,1")
    check("asked within the first step", done.returncode == STOPPED and "within the first step" in done.stderr and not manifests(bench, "first"))


def within_a_micro_batch(bench):
    """Nor does anybody wait for the end of a micro-batch, of which a step may have one alone."""
    options = {"run.folder": "long", "data.side": 224, "train.global_batch": 128, "train.micro_batch": 128, "train.threads": 1}
    process = bench.start("train", "run.yaml", *bench.sets(options))
    running = bench.wait_for_step(2, "long", process)
    step_s = min(r["step_ms"] for r in bench.records("long") if "step_ms" in r) / 1000
    time.sleep(step_s / 3)
    process.send_signal(signal.SIGUSR1)
    code = process.wait(timeout=60)
    check("USR1 within the only micro-batch of a step", running and step_s > 0.3 and code == STOPPED
          and manifests(bench, "long")[-1]["step"] == 2, f"{code}, steps of {step_s:.1f} s")


def at_stage_end(bench, want):
    """The evaluation that was due there is made up for with what that stage has, its average included."""
    options = {"run.folder": "end", **EVALUATED}
    process = bench.start("train", "run.yaml", *bench.sets(options), "--inject", f"late@1,{STAGE_END}", ranks=2)
    code = process.wait(timeout=60)
    check("USR1 in the last step of a stage", code == STOPPED and STAGE_END not in outcome(bench, "end")[1], f"{code}")
    go_on(bench, "USR1 in the last step of a stage", "end", want, 3, options)


def before_main(bench, want):
    """A signal that a launcher blocked is taken when the program is ready for it: no death, nothing trained."""
    options = {"run.folder": "early", **EVALUATED}
    code = start_blocked(bench, signal.SIGUSR1, "train", "run.yaml", *bench.sets(options))
    trained = os.path.exists(bench.path("early", "metrics.jsonl")) and bench.hashes("early")
    check("USR1 before the program is ready", code == STOPPED and not trained, f"{code}")
    go_on(bench, "USR1 before the program is ready", "early", want, 1, options)


def evaluation(bench):
    """Asked on one rank, eval leaves on all."""
    process = bench.start("eval", "calm", "--split", "train", "--out", "answers.jsonl", ranks=2)
    to_one(bench, 1, 1)(process)
    code = process.wait(timeout=60)
    check("TERM to one rank of eval", code == STOPPED and not os.path.exists(bench.path("answers.jsonl")), f"{code}")


def unread(bench, want):
    """Who reads what a run says goes away, as `| head -1` does. A run goes on to its end; mpirun ends of it, by a signal
    or in order, and its ranks at a checkpoint."""
    for ranks in (0, 2):
        options = {"run.folder": f"unread{ranks}", **EVALUATED}
        process = subprocess.Popen(bench.command(ranks, "train", "run.yaml", *bench.sets(options), "--inject", "lag@0,1"),
                                   cwd=bench.folder, env=bench.environment(ranks), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        process.stdout.readline()
        process.stdout.close()
        code = process.wait(timeout=60)
        while bench.processes():
            time.sleep(0.02)
        check(f"nobody reads what {ranks or 1} ranks say", len(manifests(bench, f"unread{ranks}")) > 0
              and (ranks > 0 or (code == 0 and outcome(bench, "unread0") == want)), f"{code}")
        go_on(bench, f"nobody reads what {ranks or 1} ranks say", f"unread{ranks}", want, 3, options)


def importing(bench):
    """An import that was stopped goes on and makes the same shards."""
    words = ["shard", "import", "synth", "data"]
    code = start_blocked(bench, signal.SIGTERM, *words, "stopped", "--shard-mb", "1")
    partial = list(pathlib.Path(bench.path("stopped")).glob("*.partial"))
    bench.must(*words, "stopped", "--shard-mb", "1")
    bench.must(*words, "whole", "--shard-mb", "1")
    same = subprocess.run(["diff", "-r", bench.path("stopped"), bench.path("whole")], capture_output=True).returncode == 0
    check("TERM to an import", code == STOPPED and not partial and same, f"{code}")


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data(train=60, val=40)
        bench.train(2, {"run.folder": "calm", **EVALUATED})
        want = outcome(bench, "calm")
        check("the undisturbed run", len(want[0]) == LAST and len(want[1]) == LAST // 4 + 1)
        usr1 = lambda process: process.send_signal(signal.SIGUSR1)
        term = lambda process: process.send_signal(signal.SIGTERM)
        stop(bench, "USR1 to mpirun", "usr1", 7, usr1, want)
        stop(bench, "TERM to one rank, again and again", "term", 11, to_one(bench, 1, 5), want)
        stop(bench, "HUP to one rank", "hup", 9, to_one(bench, 0, 2, signal.SIGHUP), want)
        nohup(bench, want)
        # mpirun itself answers with 1, and hands TERM on a second later: the run must still be under way then
        stop(bench, "TERM to mpirun", "mpirun", 1, term, want, expected=1, words=("--inject", "lag@0,1"))
        stop(bench, "USR1 while evaluating", "evaluating", 8, usr1, want)
        interrupt(bench)
        within_a_step(bench, want)
        within_a_micro_batch(bench)
        at_stage_end(bench, want)
        before_main(bench, want)
        unread(bench, want)
        evaluation(bench)
        importing(bench)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
