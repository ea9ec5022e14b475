"""Where code can be broken on purpose, and how: functions, what they call, and the places that each mutation operator
finds in them."""

import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICE = ROOT / "kernels/cuda"
HOST = ["kernels", "kernels/cuda", "dist"]  # C that puts work on streams

Function = collections.namedtuple("Function", "name file start end is_kernel")  # of the body, in the file's text
Site = collections.namedtuple("Site", "function operator start end text")  # text replaces what is there


def name_of(site, texts):
    """Survives edits elsewhere in the file: "layernorm.cu layernorm_row index: [c] -> [(c) + 1] #2"."""
    before = texts[site.function.file][site.start:site.end]
    all_of = host_functions_of if site.function.file.suffix == ".c" else functions_of
    overloads = [f for f in all_of(site.function.file, texts[site.function.file]) if f.name == site.function.name]
    same = [s for f in overloads for s in sites_of(f, texts) if (s.operator, s.text) == (site.operator, site.text)]
    change = " ".join(f"{before} -> {site.text}".split())
    return f"{site.function.file.name} {site.function.name} {site.operator}: {change} #{same.index(site) + 1}"


# --- reading code ----------------------------------------------------------------------------------------------------


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


def host_functions_of(path, text):
    """C functions: they and their braces begin in the first column."""
    for match in re.finditer(r"^\w[^\n;{}]*?(\w+)\([^;{}]*?^\{.*?^\}", text, flags=re.S | re.M):
        yield Function(match.group(1), path, match.start() + match.group().index("\n{"), match.end(), False)


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


def events(body):
    """What makes a stream wait for another: an event recorded or waited for, a call that does both."""
    call = r"(?:cudaEventRecord|cudaStreamWaitEvent|\w+(?:->\w+)*->follow)\("
    for match in re.finditer(rf"\bVG_(?:TRY|CUDA)\({call}", body):
        yield match.start(), closing(body, body.index("(", match.start())) + 1, "(void)0"
    for match in re.finditer(rf"\breturn ({call})", body):
        yield match.start(1), closing(body, match.end() - 1) + 1, "VG_OK"


OPERATORS = {"guard": guards, "barrier": barriers, "index": indices, "stride": strides, "atomic": atomics,
             "operands": swaps}
HOST_OPERATORS = {"event": events}


def sites_of(function, texts):
    body = texts[function.file][function.start:function.end]
    operators = HOST_OPERATORS if function.file.suffix == ".c" else OPERATORS
    return [Site(function, operator, function.start + start, function.start + end, text)
            for operator, find in operators.items() for start, end, text in find(body)]


# --- what there is ---------------------------------------------------------------------------------------------------


class Code:
    """The sources, and the pools of sites: of a kernel with what it calls, of a file of host code."""

    def __init__(self):
        device = sorted([*DEVICE.glob("*.cu"), *DEVICE.glob("*.h")])
        host = sorted(path for folder in HOST for path in (ROOT / folder).glob("*.c"))
        self.sources = {path: path.read_text() for path in [*device, *host] if path.name != "dev.h"}
        self.texts = {path: blanked(text) for path, text in self.sources.items()}
        self.functions = [f for path in device if path in self.texts for f in functions_of(path, self.texts[path])]
        self.host = host

    def pools(self):
        """(name, source to compile, sites) of each kernel and of each file of host code that has any."""
        for kernel in self.functions:
            if kernel.is_kernel:
                called = called_by(kernel, self.functions, self.sources, self.texts)
                yield kernel.name, kernel.file, [s for f in called for s in sites_of(f, self.texts)]
        for path in self.host:
            sites = [s for f in host_functions_of(path, self.texts[path]) for s in sites_of(f, self.texts)]
            if sites:
                yield path.name, path, sites
