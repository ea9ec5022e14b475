#!/usr/bin/env python3
"""Breaks code on purpose and looks whether its tests notice.

usage: mutants.py BUILD [--of NAME...] [--each N | --draw N] [--seed N] [--known FILE] [--unbroken N] [--jobs N] [--list]

A site is a place and a way to break it (mutation_sites.py): in device code a guard removed, a barrier dropped, an index
off by one, a wrong stride, an atomic lost, operands swapped; in host code an event that a stream no longer waits for. A
kernel's sites are those of its body and of the device functions that it calls; host code's are counted by file. --each
takes N of every kernel's and file's, --draw N in all, from as many as it can, by the seed; without them the command
takes all. Each is compiled by itself (one that does not compile does not count, nor one that leaves the object as it was:
functions are found by name, and this kernel calls another of that name); BUILD holds the unbroken rest (build/release). A kernel in a plug-in of its own meets the tests of the operations beside it: in check mode, then in
fast mode in three orders. Host code in a test program meets that program in several orders of streams.

First each file meets its tests as it is, or all would be caught by whatever is wrong with them; --unbroken N tries N of the files,
for where the suite runs beside.

--known takes verdicts from what an earlier run printed, so that one that was interrupted goes on. Whoever changes code
or tests leaves out what that touches.

A mutant that no test can catch because it means the same is listed in equivalent_mutants.txt with the reason. The
command fails when another one survives."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys
import tempfile

from mutation_sites import DEVICE, ROOT, Code, blanked, name_of

EQUIVALENT = pathlib.Path(__file__).with_name("equivalent_mutants.txt")
TEST_S, MOST_S = 60, 1800  # of processor; of time, on a machine that is busy with other work
NO_MUTANT = {"does not compile", "is not in the code"}
RUNS = {"check": ["forward"], "fast": ["forward", "reversed", "7"]}
SEEDS = [0, 1, 2, 7]  # orders of streams, of rank 0; the next rank has the next
# Test programs for host code, each with ranks and ranks of a host; by room.
PROGRAMS = {"dist": [("tests/dist/mpi_device", 2, 2), ("tests/dist/mpi_device", 4, 2)],
            "kernels": [("tests/unit/test_cuda_program", 1, 1)]}


class Bench:
    """Compiles a mutant beside the unbroken objects of the build, and runs tests with it."""

    def __init__(self, build):
        self.build = build.resolve()
        self.commands, self.objects, self.links = {}, {}, {}  # the first two by mode and source
        for entry in json.loads((self.build / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            output = words[words.index("-o") + 1]
            mode = re.search(r"kernels_(fast|check)\.dir/|(vg_\w+)\.dir/", output)
            if mode:
                key = mode.group(1) or "host", pathlib.Path(entry["file"])
                self.commands[key], self.objects[key] = words, self.build / output

    def compiled(self, folder, mode, source):
        """The object of `source` from the folder's copy, where there is one; None if it does not compile."""
        out = folder / f"{mode}.o"
        broken = folder / source.relative_to(ROOT)
        words = [w for w in self.commands[mode, source] if w not in ("-g", "-g1", "-Werror")]
        words[words.index("-o") + 1] = str(out)
        words[words.index("-c") + 1] = str(broken if broken.exists() else source)
        at = next(i for i, word in enumerate(words) if word.startswith("-I"))
        words[at:at] = ["-w", f"-I{folder}", f"-ffile-prefix-map={folder}={ROOT}"]
        done = subprocess.run(words, cwd=self.build, capture_output=True, timeout=MOST_S)
        return None if done.returncode else out

    def passes(self, command, **settings):
        env = dict(os.environ, VLGTR_DEVICE="cuda", OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="1",
                   OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1",
                   OMPI_MCA_hwloc_base_binding_policy="none", CMOCKA_TEST_ABORT="1",
                   LD_LIBRARY_PATH=str(self.build / "tests/emu/lib"), **settings)
        limits = ["timeout", str(MOST_S), "prlimit", f"--cpu={TEST_S}"]
        return subprocess.run([*limits, *command], env=env, capture_output=True).returncode == 0

    # --- kernels ---

    def plug_in(self, folder, mode, source, out):
        others = [o for (m, s), o in self.objects.items() if m == mode and s != source]
        library = folder / f"libkernels_{mode}.so"
        subprocess.run(["g++", "-shared", "-o", library, out, *others, "-Wl,--gc-sections", "-Wl,-Bsymbolic",
                        self.build / "tests/emu/lib/libcudart.so.13"], check=True)
        return library

    def tests_of(self, source):
        """The recorded cases of the source's operations, and the unit tests that are named after it or run them."""
        rows = operations_of(source)
        yield from ([self.build / "tests/parity/test_ops", row] for row in rows)
        for test in sorted((ROOT / "tests/unit/kernels").glob("test_cuda_*.c")):
            text = test.read_text()
            if test.stem == f"test_cuda_{source.stem}" or any(re.search(rf"\bVG_OP_{row}\b", text) for row in rows):
                yield [self.build / "tests/unit" / test.stem]

    def kernel_verdict(self, folder, source, mode, is_mutant=lambda: True):
        """is_mutant takes a compilation: it is asked of what the first test lets pass."""
        out = self.compiled(folder, mode, source)
        if not out:
            return "does not compile"
        library = self.plug_in(folder, mode, source, out)
        for i, (order, command) in enumerate(itertools.product(RUNS[mode], self.tests_of(source))):
            if not self.passes(command, VG_EMU_ORDER=order, LD_PRELOAD=str(library)):
                return f"caught by {command[-1] if len(command) > 1 else command[0].name}, {mode} {order}"
            if i == 0 and not is_mutant():
                return "is not in the code"
        return "survived"

    # --- host code ---

    def link_of(self, program):
        """The words that link a program; its own object is the first."""
        if program not in self.links:
            lines = subprocess.run(["ninja", "-t", "commands", program], cwd=self.build, capture_output=True, text=True,
                                   check=True).stdout.splitlines()
            self.links[program] = shlex.split(lines[-1].removeprefix(": && ").removesuffix(" && :"))
        return self.links[program]

    def host_verdict(self, folder, source):
        out = self.compiled(folder, "host", source)
        if not out:
            return "does not compile"
        for program, ranks, of_host in PROGRAMS[source.relative_to(ROOT).parts[0]]:
            words = list(self.link_of(program))
            binary = folder / pathlib.Path(program).name
            words[words.index("-o") + 1] = str(binary)
            subprocess.run([words[0], str(out), *words[1:]], cwd=self.build, check=True)  # before the archives
            for seed in SEEDS:
                plug_in = self.build / "tests/emu/libkernels_fast.so"
                start = f"VG_EMU_SEED=$(({seed} + OMPI_COMM_WORLD_RANK)) LD_PRELOAD={plug_in} exec {binary}"
                if not self.passes(["mpirun", "--oversubscribe", "-n", str(ranks), "sh", "-c", start],
                                   VLGTR_WINDOW_RANKS=str(of_host)):
                    return f"caught by {binary.name} on {ranks} ranks, order {seed}"
        return "survived"

    # --- both: "survived", "does not compile", "is not in the code", or what caught it ---

    def try_unbroken(self, source):
        """ctest runs kernels as they are in all orders: here it is seen that they pass when compiled in the same way."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            if source.suffix == ".c":
                return self.host_verdict(folder, source)
            return self.kernel_verdict(folder, source, "check")

    def is_in_the_code(self, folder, source, broken, text):
        """Whether the compiler makes something else of the unbroken text, in the same place: its path is in the object."""
        text_of_mutant, object_of_mutant = broken.read_text(), (folder / "check.o").read_bytes()
        broken.write_text(text)
        object_of_text = self.compiled(folder, "check", source).read_bytes()
        broken.write_text(text_of_mutant)
        return object_of_text != object_of_mutant

    def try_site(self, source, site, text):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            broken = folder / site.function.file.relative_to(ROOT)
            broken.parent.mkdir(parents=True)
            broken.write_text(text[:site.start] + site.text + text[site.end:])
            if source.suffix == ".c":
                return self.host_verdict(folder, source)
            checked = self.kernel_verdict(folder, source, "check", lambda: self.is_in_the_code(folder, source, broken, text))
            return self.kernel_verdict(folder, source, "fast") if checked == "survived" else checked


def operations_of(source):
    """The rows of ops.def that this file implements, or that files implement which call what it defines."""
    rows = set(re.findall(r"^VG_OP\((\w+)", (ROOT / "kernels/ops.def").read_text(), flags=re.M))
    defined = re.compile(r"^[^\n;{}]*\b(vg_cuda_\w+)\([^;{}]*?^\{", re.M)
    texts = {path: blanked(path.read_text()) for path in [*DEVICE.glob("*.cu"), *DEVICE.glob("*.c")]}
    names = set(defined.findall(texts[source]))
    for path, text in texts.items():
        if any(re.search(rf"\b{name}\(", text) for name in names if name[8:] not in rows):
            names |= set(defined.findall(text))
    return sorted(name[8:] for name in names if name[8:] in rows)


# --- the command -----------------------------------------------------------------------------------------------------


def chosen(code, options):
    """Lists of (source, site) in the order in which they are tried, each with how many of it are wanted."""
    pools = []
    for name, source, sites in code.pools():
        if options.of and name not in options.of:
            continue
        draw = random.Random(f"{options.seed} {name}")  # another kernel's changes leave this one's draw
        pool = [(source, site) for site in sites]
        draw.shuffle(pool)
        pools.append((pool, options.each or len(pool)))
    if options.draw:  # from as many kernels as there are mutants to draw
        random.Random(options.seed).shuffle(pools)
        share, more = divmod(options.draw, len(pools))
        pools = [(pool, share + (i < more)) for i, (pool, _) in enumerate(pools) if share + (i < more)]
    return pools


def tried(pools, attempt, jobs, shared_first):
    """Sites and their verdicts, each once, until every pool has as many that compile as wanted. What kernels share is
    tried for the first and counts for all; shared_first: before sites that are not tried yet."""
    verdicts = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
        for pool, wanted in pools:
            todo = iter(sorted(pool, key=lambda pair: shared_first and pair not in verdicts))
            n_valid = 0
            while n_valid < wanted:
                batch = list(itertools.islice(todo, min(jobs, wanted - n_valid)))
                if not batch:
                    break
                new = [pair for pair in batch if pair not in verdicts]
                for pair, verdict in zip(new, workers.map(lambda pair: attempt(*pair), new)):
                    verdicts[pair] = verdict
                    yield *pair, verdict
                n_valid += sum(verdicts[pair] not in NO_MUTANT for pair in batch)


def line_of(source, site, texts):
    return f"{source.name}: {name_of(site, texts)}"


def report(results, texts, equivalent):
    counts, by_operator = collections.Counter(), collections.Counter()
    for source, site, verdict in results:
        if verdict == "survived" and name_of(site, texts) in equivalent:
            verdict = "means the same"
        kind = verdict.split(" by ")[0]
        counts[kind] += 1
        by_operator[site.operator, kind] += 1
        print(f"{line_of(source, site, texts)}: {verdict}", flush=True)
    for (operator, kind), n in sorted(by_operator.items()):
        print(f"{operator:10} {kind:18} {n}")
    n_none = sum(counts[verdict] for verdict in NO_MUTANT)
    n = sum(counts.values()) - n_none
    print(f"{n} mutants: {counts['caught']} caught, {counts['means the same']} mean the same, "
          f"{counts['survived']} survived ({n_none} more did not compile or change the code)")
    return counts["survived"]


def try_unbroken(bench, sources, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
        for source, verdict in zip(sources, workers.map(bench.try_unbroken, sources)):
            if verdict != "survived":
                sys.exit(f"{source.name} as it is: {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--of", nargs="*", help="kernels and files of host code")
    parser.add_argument("--each", type=int)
    parser.add_argument("--draw", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--known", type=pathlib.Path)
    parser.add_argument("--unbroken", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()

    code = Code()
    pools = chosen(code, options)
    if options.list:
        for source, site in sorted({pair for pool, _ in pools for pair in pool}):
            print(line_of(source, site, code.texts))
        return 0

    bench = Bench(options.build)
    earlier = options.known.read_text().splitlines() if options.known else []
    judged = [re.match(r"(.*): (does not compile|is not in the code|caught by [^:]*)$", line) for line in earlier]
    known = dict(match.groups() for match in judged if match)  # what survived is tried again

    def attempt(source, site):
        line = line_of(source, site, code.texts)
        return known.get(line) or bench.try_site(source, site, code.sources[site.function.file])

    todo = {source for pool, wanted in pools for source, site in pool[:wanted]
            if line_of(source, site, code.texts) not in known}
    try_unbroken(bench, sorted(todo)[: options.unbroken], options.jobs)
    equivalent = {line.split("\t")[0] for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#")}
    return report(tried(pools, attempt, options.jobs, bool(options.each)), code.texts, equivalent) > 0


if __name__ == "__main__":
    sys.exit(main())
