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


def options(tree):
    code = tree.text("trainer/**/*.[ch]")
    for section, name, *_ in tree.rows("trainer/options.def", "VG_OPTION"):
        if not re.search(rf"\b{section}_{name}\b", code):
            yield f"trainer/options.def: nothing in trainer/ reads {section}.{name} (the field {section}_{name})"


def metrics(tree):
    code = tree.text("trainer/*.c")
    told = {name for call in re.findall(r"vg_metrics_number\([^;]*;|\{VG_METRIC_\w+, \(?\w*\)? ?r->", code)
            for name in re.findall(r"VG_METRIC_(\w+)", call)}
    for key, *_ in tree.rows("trainer/metrics.def", "VG_METRIC"):
        if key not in told:
            yield f"trainer/metrics.def: nobody tells {key}: no vg_metrics_number and no line of vg_metrics_step has it"


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
        sets.setdefault(importer, []).append(name)
    places = {"data/FORMAT.md": "shard import {} ", "tests/unit/data/*.c": '"{}"', "tests/fuzz/*.[ch]": '"{}"'}
    for names in sets.values():
        for place, shape in places.items():
            if not any(shape.format(name.strip('"')) in tree.text(place) for name in names):
                yield f"data/importers.def: {place} has nothing of {' or '.join(names)}"


CHECKS = options, metrics, faults, verbs, importers


TABLES = {"trainer/options.def": "VG_OPTION", "trainer/metrics.def": "VG_METRIC", "trainer/faults.def": "VG_FAULT",
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
        "trainer/options.def": 'VG_OPTION(run, folder, text, "a,b", 0, 0, "", FREE, "h")\nVG_OPTION(run, idle, flag, "", 0, 0, "", FREE, "h")\n',
        "trainer/metrics.def": 'VG_METRIC(loss, "l", 1, "h")\nVG_METRIC(lr, "r", 1, "h")\nVG_METRIC(mute, "m", 1, "h")\n',
        "trainer/faults.def": 'VG_FAULT(kill, ONCE, "h")\nVG_FAULT(idle, ONCE, "h")\n',  # brought about and tried by nobody
        "trainer/verbs.def": 'VG_VERB(eval, MANY, ROW, "RUN [--out F] [--gone]", "h")\n',
        "trainer/inject.c": "VG_FAULT_kill o->run_folder",
        "trainer/metrics.c": "{VG_METRIC_loss, r->loss} vg_metrics_number(m, r->step, VG_METRIC_lr, x); charts = {VG_METRIC_mute}",
        "trainer/cmd/eval.c": '{.name = "--out", .text = &out}, {.name = "--secret", .flag = &s}',
        "data/importers.def": 'VG_IMPORTER("a", vg_a, "", "h")\nVG_IMPORTER("a+", vg_a, "", "h")\nVG_IMPORTER("b", vg_b, "", "h")\n',
        "data/FORMAT.md": "`vlgtr shard import a DIR OUT`",
        "tests/unit/data/test_b.c": '"a" "b"',
        "tests/fuzz/fuzz_a.c": '"a"',
        "tests/fault/bad_input.py": 'bench.run("eval", "--inject", "kill@0,1")',
    }
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0 if main(root) == 8 else 1


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1] == "--self-test" else main(sys.argv[1]) > 0)
