"""Records the fixtures of tests/fixtures/parity: python tests/parity/record.py [case...]

Values are those of an fp64 run (the truth); an fp32 run of the same PyTorch code beside it says how far PyTorch itself
is from them. --double and --single print one run's totals without recording. The same machine gives the same files.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import safetensors.numpy
import torch

import ops
import oracle
import philox
from cases import CASES

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "parity"
SMALLEST_MARGIN = 1e-3


def run(c, dtype):
    """All values of one step: forward, losses and the gradient of everything."""
    W, x = oracle.weights(c, dtype), oracle.inputs(c)
    image, rows = oracle.towers(c, W, x)
    out = oracle.forward(c, W, x, image, rows)
    for name in ("image", "text", "logits", "boxes"):
        out[name].retain_grad()
    oracle.criterion(c, W, x, out)
    out["total"].backward()
    values = {"value." + k: v.detach() for k, v in out.items() if torch.is_tensor(v) and k not in ("align_a", "align_u")}
    values["value.pos_embed"] = W["vision.pos_embed"].detach()
    for name in ("image", "text", "logits", "boxes"):
        values["grad." + name] = out[name].grad
    for name, w in W.items():
        values["grad." + name] = torch.zeros_like(w) if w.grad is None else w.grad
    facts = {"match": out["match"], "scales": out["scales"], "margin": out["margin"]}
    return {k: v.detach().numpy() for k, v in values.items()}, facts, x


def trains(c, name):
    """Whether a parameter trains in the stage: text never does, of vision the last blocks and the norm."""
    if name.startswith("text."):
        return False
    if not name.startswith("vision."):
        return True
    depth, unfrozen = c["vision"]["depth"], c["train"]["unfreeze_blocks"]
    if name.startswith("vision.blocks."):
        return int(name.split(".")[2]) >= depth - unfrozen
    return unfrozen > 0 if name.startswith("vision.norm.") else unfrozen == depth


def optimizer_of(c, W):
    """AdamW with decay on matrices only: not on biases, norms, gammas, nor on positions and prefix tokens."""
    train, groups = c["train"], {}
    for name, w in W.items():
        if w.requires_grad:
            plain = w.dim() < 2 or name.rsplit(".", 1)[-1] in ("pos_embed", "cls_token", "reg_token")
            lr = train["vision_lr"] if name.startswith("vision.") else train["lr"]
            groups.setdefault((lr, 0.0 if plain else train["decay"]), []).append(w)
    return torch.optim.AdamW([{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()])


def decided(c, W, modules, step, seeds):
    """The step's batch and its losses. The first of the candidate seeds whose matchings all have a clear winner."""
    for seed in seeds[step : step + 1] or range(100 * (step + 1), 100 * (step + 2)):
        x = oracle.inputs(c, seed)
        out = oracle.forward(c, W, x, *oracle.towers(c, W, x, modules))
        oracle.criterion(c, W, x, out)
        if seeds or out["margin"] >= SMALLEST_MARGIN:
            return seed, out
    raise SystemExit(f"step {step}: no batch whose matchings have a margin of {SMALLEST_MARGIN}")


def run_steps(c, dtype, seeds):
    """A run of training steps on the batches of `seeds`, or on batches it chooses when there are none."""
    W, modules = oracle.weights(c, dtype), (oracle.vision_tower(c), oracle.text_tower(c))
    for name, w in W.items():
        w.requires_grad_(trains(c, name))
    start = {name: w.detach().clone() for name, w in W.items() if w.requires_grad}
    optimizer = optimizer_of(c, W)
    logs, facts = {"total": [], "norm": [], "parts": []}, {"match": [], "margin": np.inf, "seeds": []}
    for step in range(c["train"]["steps"]):
        seed, out = decided(c, W, modules, step, seeds)
        optimizer.zero_grad()
        out["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_([W[name] for name in start], c["train"]["clip"])
        optimizer.step()
        for name, v in (("total", out["total"]), ("norm", norm), ("parts", out["parts"])):
            logs[name].append(v.detach())
        facts["match"].append(out["match"])
        facts["seeds"].append(seed)
        facts["margin"] = min(facts["margin"], out["margin"])
    values = {"value." + name: torch.stack(v).numpy() for name, v in logs.items()}
    values.update({"update." + name: (W[name].detach() - w).numpy() for name, w in start.items()})
    facts["match"] = np.stack(facts["match"])
    return values, facts


def record_steps(name, c):
    truth, facts = run_steps(c, torch.float64, [])
    single, facts32 = run_steps(c, torch.float32, facts["seeds"])
    if not np.array_equal(facts["match"], facts32["match"]):
        raise SystemExit(f"{name}: fp32 matches otherwise; lower the learning rate")
    tensors = pack(truth, single, c["samples"])
    batches = [oracle.inputs(c, seed) for seed in facts["seeds"]]
    tensors.update({k: np.stack([x[k] for x in batches]) for k in batches[0] if k != "pixels"})
    tensors.update(match=facts["match"], seeds=np.array(facts["seeds"], np.int32))
    write(name, tensors, {"config": c, "names": list(truth)})
    total, error = truth["value.total"], np.abs(single["value.total"] - truth["value.total"])
    return f"total {total[0]:.4f} .. {total[-1]:.4f}, margin {facts['margin']:.4f}, fp32 error {error[0]:.1e} .. {error[-1]:.1e}"


def sample_indices(n, k):
    """At most k flat indices of n: one from each k-th part, jittered by Philox."""
    if n <= k:
        return np.arange(n)
    words = philox.stream(philox.key_of(0, "sample"), k).astype(np.int64)
    return np.arange(k) * n // k + words % (n // k)


def pack(truth, single, k):
    """Samples one after another; per tensor: elements, norm, largest magnitude, and of fp32's error the largest and norm."""
    samples, stats = [], []
    for name, x in truth.items():
        flat = x.reshape(-1)
        error = flat - single[name].reshape(-1)
        stats.append([flat.size, np.linalg.norm(flat), np.abs(flat).max(), np.abs(error).max(), np.linalg.norm(error)])
        samples.append(flat[sample_indices(flat.size, k)].astype(np.float32))
    return {"samples": np.concatenate(samples), "stats": np.array(stats)}


def write(name, tensors, description):
    """Metadata under one key, so that the file's bytes do not depend on a hash order."""
    data = safetensors.numpy.save(tensors, {"case": json.dumps(description)})
    (FIXTURES / f"{name}.safetensors").write_bytes(data)


def record(name, c):
    truth, facts, x = run(c, torch.float64)
    single, facts32, _ = run(c, torch.float32)
    if facts["margin"] < SMALLEST_MARGIN:
        raise SystemExit(f"{name}: a matching is decided by {facts['margin']:.1e} only; choose another seed")
    assert (facts["match"] == facts32["match"]).all()
    tensors = pack(truth, single, c["samples"])
    tensors.update({k: v for k, v in x.items() if k != "pixels"}, match=facts["match"], scales=facts["scales"])
    write(name, tensors, {"config": c, "names": list(truth)})
    largest = {kind: max(np.abs(v).max() for k, v in truth.items() if k.startswith(kind)) for kind in ("value", "grad")}
    # Some gradients are 0 but for rounding (a key's bias): errors are judged against a thousandth of the largest, too.
    floor = {k: max(np.abs(v).max(), 1e-3 * largest[k.split(".")[0]]) for k, v in truth.items()}
    error, worst = max((np.abs(single[k] - truth[k]).max() / floor[k], k) for k in truth)
    return f"total {truth['value.total']:.9f} margin {facts['margin']:.4f} fp32 worst {error:.1e} of {worst}"


def keep_errors(tensors, rows):
    """Cases that the file has with the same numbers keep PyTorch's errors, which are other ones on each machine."""
    path = FIXTURES / "ops.safetensors"
    if not path.exists():
        return
    with safetensors.safe_open(path, "np") as f:
        have = {name: f.get_tensor(name) for name in f.keys()}
        errors = {json.dumps({**row, "error": None}): row["error"] for row in json.loads(f.metadata()["case"])}
    for row in rows:
        same = all(name in have and np.array_equal(have[name], tensors[name]) for name in (*row["in"], *row["out"]) if name)
        row["error"] = errors.get(json.dumps({**row, "error": None}), row["error"]) if same else row["error"]


def record_ops():
    """One file for all operations: operands as they are, results in full."""
    tensors, rows, names = {}, [], {}

    def store(v, name):
        if v is None:
            return None
        if id(v) not in names:
            names[id(v)] = name, v  # holds v, so that its id stays its own
            tensors[name] = np.ascontiguousarray(v)
        return names[id(v)][0]

    for op, case, attr, operands in ops.cases():
        truth, single = (ops.run(op, attr, operands, dtype) for dtype in (torch.float64, torch.float32))
        errors = [0.0 if t is None else float(np.abs(t.astype(np.float64) - s).max()) for t, s in zip(truth, single)]
        parts = op in ("detr_loss", "align_loss")  # whose first output is fp64
        rounded = {id(t): t if t is None or t.dtype != np.float64 or parts and not i else t.astype(np.float32) for i, t in enumerate(truth)}
        label = f"{op}.{case}"
        inputs = [store(v, f"{label}.in{i}") for i, v in enumerate(operands)]
        outputs = [store(rounded[id(t)], f"{label}.out{i}") for i, t in enumerate(truth)]
        rows.append({"op": op, "case": case, "attr": attr, "in": inputs, "out": outputs, "error": errors})
    keep_errors(tensors, rows)
    write("ops", tensors, rows)
    return f"{len(rows)} cases of {len({r['op'] for r in rows})} operations"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help="all when none is named")
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--single", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name in args.cases or ["ops", *CASES]:
        start = time.time()
        if name == "ops":
            line = record_ops()
        elif (args.double or args.single) and not CASES[name]["train"]:
            values, facts, _ = run(CASES[name], torch.float64 if args.double else torch.float32)
            line = f"total {values['value.total']:.9f} margin {facts['margin']:.4f}"
        else:
            line = (record_steps if CASES[name]["train"] else record)(name, CASES[name])
        print(f"{name}: {line}, {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
