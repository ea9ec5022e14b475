#!/usr/bin/env python3
"""Breaks kernels on purpose and looks whether their tests notice.

usage: mutants.py BUILD [--kernels NAME...] [--each N | --draw N] [--seed N] [--list]

A site is a place in device code and a way to break it: a guard removed, a barrier dropped, an index off by one, a wrong
stride, an atomic lost, operands swapped. A kernel's sites are those of its body and of the device functions that it
calls. --each takes N of every kernel's, --draw N in all, from as many kernels as it can, by the seed; without them the
command takes all. Each is compiled into a plug-in of its own (one that does not compile does not count) and meets the
tests of the operations beside the kernel: in check mode, then in fast mode in three orders. BUILD holds the unbroken
rest (build/release).

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

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICE = ROOT / "kernels/cuda"
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent_mutants.txt")
COMPILE_S, TEST_S = 300, 120
RUNS = {"check": ["forward"], "fast": ["forward", "reversed", "7"]}

Function = collections.namedtuple("Function", "name file start end is_kernel")  # of the body, in the file's text
Site = collections.namedtuple("Site", "function operator start end text")  # text replaces what is there


def name_of(site, texts):
    """Survives edits elsewhere in the file: "layernorm.cu layernorm_row index: [c] -> [(c) + 1] #2"."""
    before = texts[site.function.file][site.start:site.end]
    same = [s for s in sites_of(site.function, texts) if (s.operator, s.text) == (site.operator, site.text)]
    change = " ".join(f"{before} -> {site.text}".split())
    return f"{site.function.file.name} {site.function.name} {site.operator}: {change} #{same.index(site) + 1}"


# --- reading device code ---------------------------------------------------------------------------------------------


def blanked(text):
    """The text with comments, strings and preprocessor lines blanked out: places stay where they are."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\]|\\.)*"|^[ \t]*#[^\n]*', blank, text, flags=re.S | re.M)


def functions_of(path, text):
    """Device functions: they and their braces begin in the first column."""
    for match in re.finditer(r"^(?:template[^\n]*\n?)?[^\n;{}#]*(?:\bKERNEL\(|__device__)[^;{}]*?^\{.*?^\}", text,
                             flags=re.S | re.M):
        head = match.group()[:match.group().index("\n{")]
        is_kernel = "KERNEL(" in head
        if is_kernel:
            head = head[head.index(")") + 1:]
        name = re.search(r"(\w+|operator\S+)\(", head)
        yield Function(name.group(1), path, match.start() + match.group().index("\n{"), match.end(), is_kernel)


def included_by(path, sources):
    """The file and the headers of device code that it includes, directly or not."""
    found, todo = {path}, [path]
    while todo:
        for name in re.findall(r'^#include "([^"]+)"', sources[todo.pop()], flags=re.M):
            if ROOT / name in sources and ROOT / name not in found:
                found.add(ROOT / name)
                todo.append(ROOT / name)
    return found


def called_by(kernel, functions, sources, texts):
    """The kernel and what it calls, directly or not."""
    found, todo, near = [kernel], [kernel], included_by(kernel.file, sources)
    while todo:
        caller = todo.pop()
        body = texts[caller.file][caller.start:caller.end]
        for f in functions:
            if f not in found and f.file in near and not f.is_kernel and re.search(rf"\b{re.escape(f.name)}\b", body):
                found.append(f)
                todo.append(f)
    return found


def closing(text, opening):
    """The place of the bracket that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError("brackets do not close")


# --- the operators ---------------------------------------------------------------------------------------------------

CAST = r"(?:\((?:float|double|int|int64_t|unsigned|size_t)\))?"
OPERAND = CAST + r"(?:(?<![\w.\]])[A-Za-z_][\w.]*(?:\[[^\[\]]*\]|\([^()]*\))?(?:\.\w+)?|(?<![\w>])\([^()]*\)|(?<![\w.])\d[\w.]*)"


def condition_start(body, end):
    """Where the condition of a ?: begins that ends here: behind what cannot belong to it."""
    depth, before = 0, re.compile(r"(?:[,;{?:]|(?<![=!<>])=|\breturn|&&|\|\|)\s+$")
    for start in range(end, 0, -1):
        depth += (body[start - 1] in ")]") - (body[start - 1] in "([")
        if depth < 0 or (depth == 0 and before.search(body, max(0, start - 80), start)):
            return start
    raise ValueError("a condition without a beginning")


def guards(body):
    for match in re.finditer(r"\bif \(", body):
        start, end = match.end(), closing(body, match.end() - 1)
        leaves = re.match(r"\)\s*\{?\s*(return|continue|break)\b", body[end:])
        yield start, end, ("false && (%s)" if leaves else "true || (%s)") % body[start:end]
    for match in re.finditer(r" \? ", body):
        start = condition_start(body, match.start())
        yield start, match.start(), f"(true || ({body[start:match.start()]}))"


def barriers(body):
    for match in re.finditer(r"\b(?:__syncthreads|__syncwarp|cp_async_wait<\w+>)\([^;]*\);", body):
        yield match.start(), match.end(), ";"


def address_spans(body):
    """What computes an address: subscripts, and the operands of loads and stores."""
    for match in re.finditer(r"(?<=[\w\])])\[", body):
        line = body[body.rfind("\n", 0, match.start()) + 1:match.start()]
        if "SHARED(" not in line and not re.search(r"\b(?:float\d?|int|double|unsigned|bool|pack<\w+>) [\w\[\], ]*$", line):
            yield match.end(), closing(body, match.start())
    for match in re.finditer(r"\b(?:load|store)<\w+>\(", body):
        end = closing(body, match.end() - 1)
        comma = body.find(",", match.end(), end)
        yield match.end(), comma if comma > 0 else end


def indices(body):
    for start, end in address_spans(body):
        yield start, end, f"({body[start:end]}) + 1"
    for match in re.finditer(r" (<=|>=|<|>) ", body):
        other = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}[match.group(1)]
        yield match.start(), match.end(), f" {other} "


def strides(body):
    for match in re.finditer(r"\bfor \(", body):
        end = closing(body, match.end() - 1)
        step = re.search(r"\w+ \+= (.+)$", body[match.end():end])
        if step:
            start = match.end() + step.start(1)
            yield start, end, f"({body[start:end]}) + 1"
    spans = list(address_spans(body))
    for match in re.finditer(r"\b(?:int|int64_t|size_t|unsigned)\b[^;=]*= ([^;]*);", body):
        spans.append((match.start(1), match.end(1)))
    places = {(m.start(1), m.end(1)) for start, end in spans
              for m in re.compile(rf" \* ({OPERAND})").finditer(body, start, end)}
    for start, end in sorted(places):
        yield start, end, f"({body[start:end]} + 1)"


def atomics(body):
    for match in re.finditer(r"\batomic(?:Add|Or|Max|Min)\(&?", body):
        end = closing(body, body.index("(", match.start()))
        target, value = body[match.end():end].split(",", 1)
        yield match.start(), end + 1, f"{'' if match.group().endswith('&') else '*'}{target} += {value.strip()}"


def swaps(body):
    for match in re.finditer(rf"({OPERAND}) ([-/%]) (?={OPERAND})", body):
        right = re.compile(OPERAND).match(body, match.end())
        yield match.start(), right.end(), f"{right.group()} {match.group(2)} {match.group(1)}"


OPERATORS = {"guard": guards, "barrier": barriers, "index": indices, "stride": strides, "atomic": atomics,
             "operands": swaps}


def sites_of(function, texts):
    body = texts[function.file][function.start:function.end]
    return [Site(function, operator, function.start + start, function.start + end, text)
            for operator, find in OPERATORS.items() for start, end, text in find(body)]


# --- trying one ------------------------------------------------------------------------------------------------------


class Bench:
    """Compiles a mutant beside the unbroken objects of the build, and runs tests with it."""

    def __init__(self, build):
        self.build = build.resolve()
        self.commands, self.objects = {}, {}  # by mode and source
        for entry in json.loads((self.build / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            output = words[words.index("-o") + 1]
            mode = re.search(r"kernels_(fast|check)\.dir/", output)
            if mode:
                key = mode.group(1), pathlib.Path(entry["file"])
                self.commands[key], self.objects[key] = words, self.build / output

    def plug_in(self, folder, mode, source):
        """The plug-in with `source` compiled from the folder's copy, where there is one; None if it does not compile."""
        out = folder / f"{mode}.o"
        broken = folder / source.relative_to(ROOT)
        words = [w for w in self.commands[mode, source] if w not in ("-g", "-g1", "-Werror")]
        words[words.index("-o") + 1] = str(out)
        words[words.index("-c") + 1] = str(broken if broken.exists() else source)
        at = next(i for i, word in enumerate(words) if word.startswith("-I"))
        words[at:at] = ["-w", f"-I{folder}"]
        if subprocess.run(words, cwd=self.build, capture_output=True, timeout=COMPILE_S).returncode:
            return None
        others = [o for (m, s), o in self.objects.items() if m == mode and s != source]
        library = folder / f"libkernels_{mode}.so"
        subprocess.run(["g++", "-shared", "-o", library, out, *others, "-Wl,--gc-sections", "-Wl,-Bsymbolic",
                        self.build / "tests/emu/lib/libcudart.so.13"], check=True)
        return library

    def passes(self, plug_in, order, command):
        env = dict(os.environ, VLGTR_DEVICE="cuda", OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="1", VG_EMU_ORDER=order,
                   LD_LIBRARY_PATH=str(self.build / "tests/emu/lib"), LD_PRELOAD=str(plug_in))
        try:
            return subprocess.run(command, env=env, capture_output=True, timeout=TEST_S).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def tests_of(self, source):
        """The recorded cases of the source's operations, and the unit tests that are named after it or run them."""
        rows = operations_of(source)
        yield from ([self.build / "tests/parity/test_ops", row] for row in rows)
        for test in sorted((ROOT / "tests/unit/kernels").glob("test_cuda_*.c")):
            text = test.read_text()
            if test.stem == f"test_cuda_{source.stem}" or any(re.search(rf"\bVG_OP_{row}\b", text) for row in rows):
                yield [self.build / "tests/unit" / test.stem]

    def verdict(self, folder, source, runs):
        """"survived", "does not compile", or what caught it."""
        for mode, orders in runs.items():
            library = self.plug_in(folder, mode, source)
            if not library:
                return "does not compile"
            for order in orders:
                for command in self.tests_of(source):
                    if not self.passes(library, order, command):
                        return f"caught by {command[-1] if len(command) > 1 else command[0].name}, {mode} {order}"
        return "survived"

    def try_unbroken(self, source):
        with tempfile.TemporaryDirectory() as name:
            return self.verdict(pathlib.Path(name), source, {"check": ["forward"]})

    def try_site(self, source, site, sources):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            broken = folder / site.function.file.relative_to(ROOT)
            broken.parent.mkdir(parents=True)
            text = sources[site.function.file]
            broken.write_text(text[:site.start] + site.text + text[site.end:])
            return self.verdict(folder, source, RUNS)


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


def chosen(kernels, functions, sources, texts, options):
    """Lists of (source, site) in the order in which they are tried, each with how many of it are wanted."""
    pools = []
    for kernel in kernels:
        draw = random.Random(f"{options.seed} {kernel.name}")  # another kernel's changes leave this one's draw
        pool = [(kernel.file, s) for f in called_by(kernel, functions, sources, texts) for s in sites_of(f, texts)]
        draw.shuffle(pool)
        pools.append((pool, options.each or len(pool)))
    if options.draw:  # from as many kernels as there are mutants to draw
        random.Random(options.seed).shuffle(pools)
        share, more = divmod(options.draw, len(pools))
        pools = [(pool, share + (i < more)) for i, (pool, _) in enumerate(pools) if share + (i < more)]
    return pools


def tried(pools, bench, sources, jobs):
    """Sites and their verdicts, each once, until every pool has as many that compile as wanted. What kernels share is
    tried for the first and counts for all."""
    verdicts = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
        for pool, wanted in pools:
            todo = iter(pool)
            n_valid = 0
            while n_valid < wanted:
                batch = list(itertools.islice(todo, min(jobs, wanted - n_valid)))
                if not batch:
                    break
                new = [pair for pair in batch if pair not in verdicts]
                for pair, verdict in zip(new, workers.map(lambda pair: bench.try_site(*pair, sources), new)):
                    verdicts[pair] = verdict
                    yield *pair, verdict
                n_valid += sum(verdicts[pair] != "does not compile" for pair in batch)


def report(results, texts, equivalent):
    counts, by_operator = collections.Counter(), collections.Counter()
    for source, site, verdict in results:
        name = name_of(site, texts)
        if verdict == "survived" and name in equivalent:
            verdict = "means the same"
        kind = verdict.split(" by ")[0]
        counts[kind] += 1
        by_operator[site.operator, kind] += 1
        print(f"{source.name}: {name}: {verdict}", flush=True)
    for (operator, kind), n in sorted(by_operator.items()):
        print(f"{operator:10} {kind:18} {n}")
    n = sum(counts.values()) - counts["does not compile"]
    print(f"{n} mutants: {counts['caught']} caught, {counts['means the same']} mean the same, "
          f"{counts['survived']} survived ({counts['does not compile']} more did not compile)")
    return counts["survived"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--kernels", nargs="*")
    parser.add_argument("--each", type=int)
    parser.add_argument("--draw", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()

    sources = {path: path.read_text() for path in sorted([*DEVICE.glob("*.cu"), *DEVICE.glob("*.h")])
               if path.name != "dev.h"}
    texts = {path: blanked(text) for path, text in sources.items()}
    functions = [f for path, text in texts.items() for f in functions_of(path, text)]
    kernels = [f for f in functions if f.is_kernel and (not options.kernels or f.name in options.kernels)]
    pools = chosen(kernels, functions, sources, texts, options)
    if options.list:
        for source, site in sorted({pair for pool, _ in pools for pair in pool}):
            print(f"{source.name}: {name_of(site, texts)}")
        return 0

    bench = Bench(options.build)
    # Compiled in the same way, the kernels as they are pass: ctest runs them in all orders.
    drawn = sorted({source for pool, wanted in pools for source, _ in pool[:wanted]})
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as workers:
        for source, verdict in zip(drawn, workers.map(bench.try_unbroken, drawn)):
            if verdict != "survived":
                sys.exit(f"{source.name} as it is: {verdict}")
    equivalent = {line.split("\t")[0] for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#")}
    return report(tried(pools, bench, sources, options.jobs), texts, equivalent) > 0


if __name__ == "__main__":
    sys.exit(main())
