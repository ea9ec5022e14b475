#!/usr/bin/env python3
"""Holds the tables of rows (*.def) against what the compiler does not see of a row: who brings it about, tells of it and tries
it. CONTRIBUTING.md says what belongs to a row.

usage: rows.py ROOT | --self-test"""

import pathlib
import re
import sys

# Where the arguments of a verb are told, and in which rows; of the others in those of verbs.def.
VERBS = "trainer/verbs.def"
TOLD = {"shard": ("trainer/shard_verbs.def", r"^VG_SHARD_ARGUMENT\(\w+, (.*)\)$"),
        "checkpoint": ("trainer/cmd/checkpoint.c", r"usage\[\] = ([^;]*);")}


class Tree:
    """Texts of the files below a folder, read once."""

    def __init__(self, root):
        self.root, self.texts = pathlib.Path(root), {}

    def text(self, *patterns):
        """The files that fit, one after another."""
        for pattern in set(patterns) - self.texts.keys():
            self.texts[pattern] = "\n".join(p.read_text(errors="replace") for p in sorted(self.root.glob(pattern)))
        return "\n".join(self.texts[p] for p in patterns)

    def rows(self, table, macro):
        """What stands between the parentheses of each row, cut at its commas but for those in quotes."""
        return [re.findall(r'"[^"]*"|[^,\s][^,]*', row) for row in re.findall(rf"^{macro}\((.*)\)$", self.text(table), re.M)]


def operations(tree):
    """A build without CUDA does not miss a kernel there."""
    for name, *_ in tree.rows("kernels/ops.def", "VG_OP"):
        if f"vg_cuda_{name}(" not in tree.text("kernels/cuda/*.cu"):
            yield f"kernels/ops.def: no file of kernels/cuda has vg_cuda_{name}"
        if not re.search(rf"\bVG_OP_{name}\b", tree.text("tests/unit/kernels/*.c")):
            yield f"kernels/ops.def: no test in tests/unit/kernels runs VG_OP_{name}; test_{name}.c would"


def options(tree):
    code = tree.text("trainer/**/*.[ch]")
    for section, name, *_ in tree.rows("trainer/options.def", "VG_OPTION"):
        if not re.search(rf"\b{section}_{name}\b", code):
            yield f"trainer/options.def: nothing in trainer/ reads {section}.{name} (the field {section}_{name})"


def metrics(tree):
    code = tree.text("trainer/*.c")
    told = {name for call in re.findall(r"vg_metrics_number\([^;]*;", code) for name in re.findall(r"VG_METRIC_(\w+)", call)}
    fields = dict(re.findall(r"\{VG_METRIC_(\w+), (?:\(\w+\))?r->(\w+)\}", code))
    for key, *_ in tree.rows("trainer/metrics.def", "VG_METRIC"):
        if key not in told | fields.keys():
            yield f"trainer/metrics.def: nobody tells {key}: no vg_metrics_number and no line of vg_metrics_step has it"
        if key in fields and not re.search(rf"(\.|->){fields[key]} = ", code):
            yield f"trainer/metrics.def: {key} is always 0: nothing in trainer/ fills the field {fields[key]} of vg_step_record"


def faults(tree):
    code, tests = tree.text("trainer/inject.c", "trainer/step.c"), tree.text("tests/*/*.py")
    for name, *_ in tree.rows("trainer/faults.def", "VG_FAULT"):
        if f"VG_FAULT_{name}" not in code:
            yield f"trainer/faults.def: nothing brings {name} about, in trainer/inject.c or trainer/step.c"
        if not re.search(rf"\b{name}@", tests):
            yield f"trainer/faults.def: no test injects {name}; a row of tests/fault/faults.py would"


def flags(words):
    return set(re.findall(r"--[a-z][a-z-]*", " ".join(words)))


def verbs(tree):
    """--help tells of what a verb reads, no more and no less."""
    tests = tree.text("tests/*/*.py")
    for verb, *_, arguments, _ in tree.rows(VERBS, "VG_VERB"):
        table, row = TOLD.get(verb, (VERBS, ""))
        told = flags(re.findall(row, tree.text(table), re.M) if row else [arguments])
        read = flags(re.findall(r'\.name = "(--[a-z-]+)"', tree.text(f"trainer/cmd/{verb}.c", f"trainer/cmd/{verb}_*.c")))
        yield from (f"{table}: --help of {verb} does not tell of {flag}" for flag in sorted(read - told))
        yield from (f"{table}: {verb} reads no {flag}" for flag in sorted(told - read))
        if f'"{verb}"' not in tests:
            yield f"{VERBS}: no test runs {verb}; tests/fault/bad_input.py would"


def importers(tree):
    """Of the sets that one importer reads, one stands for all."""
    sets = {}
    for name, importer, *_ in tree.rows("data/importers.def", "VG_IMPORTER"):
        sets.setdefault(importer, []).append(name.strip('"'))
    places = {"data/FORMAT.md": ("shard import {} ", "does not tell of `vlgtr shard import {}`"),
              "README.md": ("shard import {} ", "does not name `vlgtr shard import {}`"),
              "tests/unit/data/*.c": ('"{}"', "do not import {}; test_{}.c would"),
              "tests/fuzz/*.c": ('"{}"', "have no file of {}; a row of fuzz_data_annotations.c would")}
    for names in sets.values():
        for place, (shape, lack) in places.items():
            if not any(shape.format(name) in tree.text(place) for name in names):
                yield f"data/importers.def: {place} {lack.format(*names[:1] * 2)}"


def seeds(tree):
    """Of the files that importers read, each has a letter of its own, with which the names of its seeds begin."""
    source = "tests/fuzz/fuzz_data_annotations.c"
    letters = re.findall(r"^    \{'(\w)', \"", tree.text(source), re.M)
    for letter in sorted(set(letters)):
        if letters.count(letter) > 1:
            yield f"{source}: two files have the letter '{letter}'"
        if not any(tree.root.glob(f"tests/fuzz/corpus/data_annotations/{letter}-*")):
            yield f"{source}: '{letter}' has no seed; a line of tests/fuzz/corpus/make.py writes one"


CHECKS = operations, options, metrics, faults, verbs, importers, seeds


TABLES = {"kernels/ops.def": "VG_OP", "trainer/options.def": "VG_OPTION", "trainer/metrics.def": "VG_METRIC", "trainer/faults.def": "VG_FAULT",
          VERBS: "VG_VERB", "data/importers.def": "VG_IMPORTER"}


def main(root):
    tree = Tree(root)
    complaints = [line for check in CHECKS for line in check(tree)]
    empty = [f"{table}: no row of {macro} was found" for table, macro in TABLES.items() if not tree.rows(table, macro)]
    n = sum(len(tree.rows(*table)) for table in TABLES.items())
    print("\n".join([*complaints, *empty, f"{n} rows, {len(complaints + empty)} faults"]))
    return len(complaints + empty)


def self_test():
    """The checks notice what they are there for: each file has a row that is whole, and one that lacks something."""
    import tempfile

    files = {
        "kernels/ops.def": "VG_OP(add, 2, 1, s, g, c)\nVG_OP(halve, 1, 1, s, g, c)\n",
        "kernels/cuda/a.cu": "vg_cuda_add(",
        "tests/unit/kernels/test_a.c": "VG_OP_add",
        "trainer/options.def": 'VG_OPTION(run, folder, text, "a,b", 0, 0, "", FREE, "h")\nVG_OPTION(run, idle, flag, "", 0, 0, "", FREE, "h")\n',
        "trainer/metrics.def": 'VG_METRIC(loss, "l", 1, "h")\nVG_METRIC(lr, "r", 1, "h")\nVG_METRIC(mute, "m", 1, "h")\nVG_METRIC(empty, "e", 1, "h")\n',
        "trainer/faults.def": 'VG_FAULT(kill, ONCE, "h")\nVG_FAULT(idle, ONCE, "h")\n',  # brought about and tried by nobody
        "trainer/verbs.def": 'VG_VERB(eval, MANY, ROW, "RUN [--out F] [--gone]", "h")\n',
        "trainer/inject.c": "VG_FAULT_kill o->run_folder",
        "trainer/metrics.c": "{VG_METRIC_loss, (double)r->loss}, {VG_METRIC_empty, r->empty}, {.loss = 1} vg_metrics_number(m, r->step, VG_METRIC_lr, x); charts = {VG_METRIC_mute}",
        "trainer/cmd/eval.c": '{.name = "--out", .text = &out}, {.name = "--secret", .flag = &s}',
        "data/importers.def": 'VG_IMPORTER("a", vg_a, "", "h")\nVG_IMPORTER("a+", vg_a, "", "h")\nVG_IMPORTER("b", vg_b, "", "h")\n',
        "data/FORMAT.md": "`vlgtr shard import a DIR OUT`",
        "tests/unit/data/test_b.c": '"a" "b"',
        "README.md": "vlgtr shard import a  DIR",
        "tests/fuzz/fuzz_data_annotations.c": "    {'x', \"a\", ..\n    {'y', \"a\", ..\n    {'y', \"a\", ..\n",
        "tests/fuzz/corpus/data_annotations/x-a": "x",
        "tests/fault/bad_input.py": 'bench.run("eval", "--inject", "kill@0,1")',
    }
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0 if main(root) == 14 else 1


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1] == "--self-test" else main(sys.argv[1]) > 0)
