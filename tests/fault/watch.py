#!/usr/bin/env python3
"""A rank that falls silent or stands still is named, in the time that the options say, and the job ends instead of
waiting for ever; the run goes on from its checkpoint.

usage: watch.py VLGTR"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

COMMUNICATION, CONFIGURATION, SILENCE = 69, 78, 4
STEPS = {"schedule.heads.steps": 300, "run.checkpoint_every": 10}
check = harness.Check()


def disturb(bench, folder, ranks, do, **options):
    """Trains, does something to the ranks, waits: exit code, seconds since, and what was said."""
    options = {**STEPS, "run.folder": folder, **{key.replace("_", ".", 1): value for key, value in options.items()}}
    with open(bench.path(f"{folder}.err"), "w") as err:
        process = subprocess.Popen(bench.command(ranks, "train", "run.yaml", *bench.sets(options)), cwd=bench.folder,
                                   env=bench.environment(ranks), stdout=err, stderr=err, start_new_session=True)
    if not bench.wait_for_step(12, folder, process):
        return process.wait(), 0, pathlib.Path(bench.path(f"{folder}.err")).read_text()
    began = time.monotonic()
    do(bench.processes(), process)
    try:
        process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        bench.kill_left()
    return process.wait(), time.monotonic() - began, pathlib.Path(bench.path(f"{folder}.err")).read_text()


def stop(rank):
    return lambda ranks, _: os.kill(ranks[rank], signal.SIGSTOP)


def suspend(seconds):
    """As a scheduler does: all processes stand still for a while, and go on."""
    def do(ranks, _):
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in ranks.values():
                os.kill(pid, number)
            time.sleep(seconds if number == signal.SIGSTOP else 0)
    return do


def ended(bench, what, seen, pattern):
    code, took, said = seen
    lines = [line for line in said.splitlines() if line.startswith("vlgtr:")]
    good = code == COMMUNICATION and len(lines) == 1 and re.search(pattern, lines[0]) and took < SILENCE + 8
    check(what, good, f"{code} after {took:.1f} s: {lines if len(lines) != 1 else lines[0]}")
    check("  no process is left", not bench.processes())


def unanswered_files(bench):
    """Files of a server that no longer answers, which pipes that nobody writes to stand for: in start-up, and of an evaluation."""
    for folder, files in (("tokenizer", os.listdir(bench.path("data", "tokenizer"))), ("pipes", ["synth-00000.h5"])):
        os.mkdir(bench.path(folder))
        for name in files:
            os.mkfifo(bench.path(folder, name))
    bench.train(1, {"run.folder": "evaluated"})
    for words in (["train", "run.yaml", *bench.sets({"run.folder": "unanswered", "text.tokenizer": "tokenizer"})],
                  ["eval", "evaluated", "--set", "data.shards=pipes"]):
        process = subprocess.Popen(bench.command(2, *words, "--set", f"watch.start={SILENCE}"), cwd=bench.folder, text=True,
                                   env=bench.environment(2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            said = process.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            bench.kill_left()
            said = process.communicate()[1]
        check(f"{words[0]}: a file that cannot be opened nor not", process.returncode == COMMUNICATION and
              re.search(r"rank \d on \S+ stands still: in phase 'start' for .* \(watch.start\)", said), f"{process.returncode}: {said[-300:]}")


def dropped(bench):
    """A rank that stands still in a step which another one was asked to drop: nobody waits for it longer than it may compute."""
    limits = {"train.deadline": 1, "watch.compute": 2, "watch.silence": 0}
    process = subprocess.Popen(bench.command(2, "train", "run.yaml", *bench.sets({**STEPS, "run.folder": "dropped", **limits}),
                                             "--inject", "ask@0,14", "--inject", "lag@1,1"), cwd=bench.folder,
                               env=bench.environment(2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if "'ask' is injected" in line:
            break
    time.sleep(0.03)  # into the tenth of a second that rank 1 is late with what it sends
    os.kill(bench.processes()[1], signal.SIGSTOP)
    began = time.monotonic()
    try:
        said = process.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1]
    bench.kill_left()
    took = time.monotonic() - began
    check("a rank is stopped in a step that is dropped", process.returncode == COMMUNICATION and took < 20 and
          re.search(r"no answer from (the other ranks|rank 1 on \S+, last seen .*) for [13] s", said), f"{process.returncode} after {took:.1f} s: {said[-400:]}")


def taken_over(bench, want):
    """A start that stood still while a later one went on, as on a host that was cut off for a while: it writes nothing."""
    options = bench.sets({**STEPS, "run.folder": "zombie", "watch.silence": 0})
    first = bench.start("train", "run.yaml", *options)
    running = bench.wait_for_step(12, "zombie", first)
    first.send_signal(signal.SIGSTOP)
    bench.must("train", "run.yaml", *options)

    def everything():
        return {p: p.read_bytes() for p in pathlib.Path(bench.path("zombie")).rglob("*") if p.is_file() and p.name != "log.txt"}

    before = everything()
    first.send_signal(signal.SIGCONT)
    code = first.wait(timeout=60)
    said = pathlib.Path(bench.path("zombie", "log.txt")).read_text().splitlines()[-1]
    check("an old start wakes up: it writes nothing and says who came after", running and code == CONFIGURATION and
          everything() == before and "has taken this run over" in said and bench.hashes("zombie") == want, f"{code}: {said}")


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.train(1, {**STEPS, "run.folder": "calm"})
        want = bench.hashes("calm")
        silence = {"watch_silence": SILENCE}
        ended(bench, "a rank is stopped", disturb(bench, "one", 3, stop(2), **silence), r"rank 2 on \S+ has been silent for .* step \d+")
        bench.train(2, {**STEPS, "run.folder": "one"})
        check("  the run goes on to the same end", bench.hashes("one") == want)
        ended(bench, "rank 0 is stopped", disturb(bench, "root", 3, stop(0), **silence), r"rank 0 on \S+ has been silent for")
        seen = disturb(bench, "still", 2, stop(1), watch_silence=0, watch_exchange=SILENCE, watch_save=SILENCE)
        ended(bench, "a phase takes too long", seen, r"rank 0 on \S+ stands still: in phase '(exchange|save)' after step \d+")
        check("  its stack is shown", "where it stands" in seen[2] and "vlgtr(" in seen[2])
        limits = {f"watch_{phase}": SILENCE for phase in ("silence", "data", "compute", "exchange", "save")}
        code, _, said = disturb(bench, "suspended", 2, suspend(SILENCE + 3), **limits)
        check("a job that was suspended goes on", code == 0 and bench.hashes("suspended") == want, f"{code}: {said[-300:] if code else ''}")
        unanswered_files(bench)
        dropped(bench)
        taken_over(bench, want)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
