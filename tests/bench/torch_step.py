"""The peer of the step benchmark: the same training step in PyTorch, with the settings that suit it best.

    python tests/bench/torch_step.py [case...]       one JSON object: {case: {ms, settings, ..}}
    python tests/bench/torch_step.py --search        which of the settings is fastest, case by case (long)
    python tests/bench/torch_step.py --check         the peer's loss is the oracle's (tests/parity/oracle.py)
    python tests/bench/torch_step.py --device cuda --precision bf16 --batch 64 [--mode eager,graph,..] [case...]

A case is PRESET-STAGE, with -cached when the phrases' features come from a cache: seed-stage1, strong-stage1-cached,
seed-unfreeze4, seed-unfreeze12, ..; with -stored those of the images too; -518: at 518 pixels. ViT-S/14 at 224 pixels,
batch 8, one phrase each, padded to 24 tokens, fp32, decoder dropout
0.1, AdamW, clipping. A step starts at 8-bit pixels in host memory and ends with the weights updated. Frozen towers run without
grad and, when compiled, with packed weights.

On a GPU: fused attention, fused AdamW, inputs by an asynchronous copy from pinned memory; in bf16 autocast over fp32 master
weights, and frozen parts of the towers in bf16 altogether; fp32 without TF32, tf32 with it. A round is --steps steps in a
row and then one wait; no step waits for the host. Modes: eager; graph, the whole step recorded as a CUDA graph and replayed;
compile and compile-graph, the same of parts that torch.compile made; reduce-overhead, torch.compile's own CUDA graphs. The
fastest counts.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "parity"))

CASES = [f"{p}-{s}{c}" for p in ("seed", "strong") for s in ("stage1", "unfreeze4", "unfreeze12") for c in ("", "-cached")]
CASES += ["seed-stage1-stored", "strong-stage1-stored", "seed-stage1-stored-518"]
CASES += [f"{p}-{s}-518" for p in ("seed", "strong") for s in ("stage1", "unfreeze4", "unfreeze12")]

# glibc gives large blocks back to the system and faults them in anew each step; these keep them, on huge pages.
MALLOC = {
    "default": {},
    "kept": {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "34359738368", "MALLOC_TOP_PAD_": "268435456"},
}
MALLOC["huge"] = {**MALLOC["kept"], "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
BEST = {"mode": "eager", "malloc": "huge", "optimizer": "fused", "wait": "default"}
MODES = {"cpu": ("eager", "compile"), "cuda": ("eager", "graph", "compile", "compile-graph", "reduce-overhead")}
DEFAULT_MODES = {"cpu": [BEST["mode"]], "cuda": ["eager", "graph"]}
WARM_UP = 3


def build():
    """The model as modules under a checkpoint's names. Imports torch late: the environment is set by then."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    import oracle

    class Attention(nn.Module):
        """Packed projections, fused attention where torch has it (its CPU kernel knows no dropout)."""

        def __init__(self, d, heads, p):
            super().__init__()
            self.in_proj_weight, self.in_proj_bias = nn.Parameter(torch.empty(3 * d, d)), nn.Parameter(torch.zeros(3 * d))
            self.out_proj, self.heads, self.p = nn.Linear(d, d), heads, p
            nn.init.xavier_uniform_(self.in_proj_weight)

        def split(self, x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        def forward(self, q, k, v, seen):
            d, w, b = q.shape[-1], self.in_proj_weight, self.in_proj_bias
            if q is k:
                q, k = F.linear(q, w[: 2 * d], b[: 2 * d]).chunk(2, -1)
            else:
                q, k = F.linear(q, w[:d], b[:d]), F.linear(k, w[d : 2 * d], b[d : 2 * d])
            v = F.linear(v, w[2 * d :], b[2 * d :])
            p = self.p if self.training else 0.0
            o = F.scaled_dot_product_attention(self.split(q), self.split(k), self.split(v), seen, p)
            return self.out_proj(o.transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        """A DETR encoder layer, or with `cross` a decoder layer; post-norm."""

        def __init__(self, f, cross):
            super().__init__()
            d, p = f["d"], f["dropout"]
            self.self_attn = Attention(d, f["heads"], p)
            if cross:
                self.multihead_attn = Attention(d, f["heads"], p)
                self.norm3 = nn.LayerNorm(d)
            self.linear1, self.linear2 = nn.Linear(d, f["ffn"]), nn.Linear(f["ffn"], d)
            self.norm1, self.norm2, self.drop = nn.LayerNorm(d), nn.LayerNorm(d), nn.Dropout(p)

        def feed_forward(self, x):
            return self.drop(self.linear2(self.drop(self.linear1(x).relu())))

        def encode(self, M, pos, seen):
            q = M + pos
            M = self.norm1(M + self.drop(self.self_attn(q, q, M, seen)))
            return self.norm2(M + self.feed_forward(M))

        def decode(self, t, Q, K, V, seen):
            q = t + Q
            t = self.norm1(t + self.drop(self.self_attn(q, q, t, None)))
            t = self.norm2(t + self.drop(self.multihead_attn(t + Q, K, V, seen)))
            return self.norm3(t + self.feed_forward(t))

    class Layers(nn.Module):
        def __init__(self, f, n, cross):
            super().__init__()
            self.layers = nn.ModuleList(Layer(f, cross) for _ in range(n))
            if cross:
                self.norm = nn.LayerNorm(f["d"])

    class Boxes(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 4)])

        def forward(self, x):
            return self.layers[2](self.layers[1](self.layers[0](x).relu()).relu()).sigmoid()

    class Peer(nn.Module):
        def __init__(self, c):
            super().__init__()
            f, self.c = c["fusion"], c
            d = f["d"]
            self.vision, self.text = oracle.vision_tower(c), oracle.text_tower(c)
            self.text.set_attn_implementation("sdpa")
            self.visual_proj, self.visual_norm = nn.Linear(c["vision"]["width"], d), nn.LayerNorm(d)
            self.text_proj, self.text_norm = nn.Linear(c["text"]["width"], d), nn.LayerNorm(d)
            self.modality_embed, self.query_embed = nn.Embedding(2, d), nn.Embedding(f["queries"], d)
            if f["encoder_layers"]:
                self.encoder = Layers(f, f["encoder_layers"], False)
            self.decoder = Layers(f, f["decoder_layers"], True)
            self.class_embed, self.bbox_embed = nn.Linear(d, 2), Boxes(d)
            side = c["side"] // c["vision"]["patch"]
            pos = oracle.sine_positions(side, d, torch.float32)
            pos = torch.cat([pos, torch.zeros(oracle.text_rows(c), d)])
            self.register_buffer("pos", pos, persistent=False)
            self.register_buffer("mean", 255 * torch.tensor(oracle.MEAN).view(3, 1, 1), persistent=False)
            self.register_buffer("scale", 1 / (255 * torch.tensor(oracle.STD).view(3, 1, 1)), persistent=False)

        def image_trunk(self, pixels, blocks, kind=torch.float32):
            """Pixels u8 [B,S,S,3] through the first blocks, in the type of their weights."""
            v = self.vision
            x = ((pixels.permute(0, 3, 1, 2).float() - self.mean) * self.scale).to(kind)
            x = v._pos_embed(v.patch_embed(x))
            return v.blocks[:blocks](x)

        def image_top(self, x, blocks):
            return self.vision.norm(self.vision.blocks[blocks:](x))[:, 1 + self.c["vision"]["registers"] :]

        def phrases(self, ids):
            """A mask of four dimensions is used as it is; of another the library asks the device what is in it."""
            seen = (ids != 1)[:, None, None].expand(-1, 1, ids.shape[1], -1)
            return self.text(ids, attention_mask=seen).last_hidden_state[:, : oracle.text_rows(self.c)]

        def answer(self, image, text, counts):
            I = self.visual_norm(self.visual_proj(image)) + self.modality_embed.weight[0]
            T = self.text_norm(self.text_proj(text)) + self.modality_embed.weight[1]
            M, seen = torch.cat([I, T], 1), None
            if T.shape[1] > 1:
                seen = (torch.arange(M.shape[1], device=M.device) < (I.shape[1] + counts)[:, None])[:, None, None]
            for layer in self.encoder.layers if self.c["fusion"]["encoder_layers"] else ():
                M = layer.encode(M, self.pos, seen)
            K, Q = M + self.pos, self.query_embed.weight
            t, hidden = torch.zeros_like(Q).expand(len(M), -1, -1), []
            for layer in self.decoder.layers:
                t = layer.decode(t, Q, K, M, seen)
                hidden.append(t)
            h = self.decoder.norm(torch.stack(hidden))
            return self.class_embed(h), self.bbox_embed(h)

        def loss(self, image, text, counts, targets):
            """One target per phrase, so the matching is an arg-min over queries: no loop, no trip through numpy."""
            logits, boxes = self.answer(image, text, counts)  # [L,B,Q,..]
            with torch.no_grad():
                cost = 5 * (boxes - targets).abs().sum(-1) - logits.softmax(-1)[..., 0] - 2 * oracle.giou(boxes, targets)
                best = cost.argmin(-1, keepdim=True)
            hit = torch.zeros_like(cost).scatter_(-1, best, 1.0)
            log_p = logits.log_softmax(-1)
            B, Q, eos = boxes.shape[1], boxes.shape[2], self.c["loss"]["eos"]
            weight = (eos + (1 - eos) * hit) / (B + eos * (B * Q - B))  # torch.where of two numbers copies them to the device, and waits
            nll = -(weight * torch.where(hit > 0, log_p[..., 0], log_p[..., 1])).sum()
            own = boxes.gather(2, best[..., None].expand(-1, -1, -1, 4)).squeeze(2)
            target = targets[:, 0]
            return nll + (5 * (own - target).abs().sum() + 2 * (1 - oracle.giou(own, target)).sum()) / B

    return Peer


def config(case, batch):
    from cases import FULL, FULL_STRONG, changed

    base = FULL_STRONG if case.startswith("strong") else FULL
    return changed(base, images=batch, fusion__dropout=0.1, side=518 if case.endswith("518") else base["side"])


def unfrozen(case):
    return int(case.split("unfreeze")[1].split("-")[0]) if "unfreeze" in case else 0


def train_parameters(model, blocks):
    """What trains: all but the towers, and the last `blocks` vision blocks; all of vision when that is all of them."""
    depth, out = len(model.vision.blocks), []
    for name, p in model.named_parameters():
        top = name.startswith("vision.blocks.") and int(name.split(".")[2]) >= depth - blocks
        top |= blocks > 0 and name.startswith("vision.norm.") or blocks == depth and name.startswith("vision.")
        p.requires_grad_(top or not name.startswith(("vision.", "text.")))
        if p.requires_grad:
            out.append((name, p))
    return out


def set_precision(precision):
    """fp32 on a GPU is fp32, and tf32 where products may have ten bits less."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


@functools.cache
def host_batch(case, images):
    """A batch by name; its own side is all that a case adds to it."""
    import torch

    import oracle

    x = oracle.inputs(config(case, images))
    return {"pixels": torch.from_numpy(x["pixels"]), "ids": torch.from_numpy(x["token_ids"]).long(),
            "counts": torch.from_numpy(x["token_counts"]), "targets": torch.from_numpy(x["targets"])}


class Work:
    """What a step works on: the model with its optimizer, and a batch in host memory with its place on the device."""

    def __init__(self, case, settings):
        import torch

        self.case, self.settings = case, settings
        self.device, self.bf16 = torch.device(settings["device"]), settings["precision"] == "bf16"
        c = config(case, settings["batch"])
        with self.device:
            self.model = build()(c).train()
        self.model.to(self.device)  # tables that were made on the host
        self.model.vision.eval(), self.model.text.eval()
        self.blocks = unfrozen(case)
        self.frozen = len(self.model.vision.blocks) - self.blocks
        named = train_parameters(self.model, self.blocks)
        self.parameters = [p for _, p in named]
        if self.bf16:
            self.round_frozen()
        self.optimizer = self.make_optimizer(named)
        host = host_batch("seed-stage1-518" if c["side"] == 518 else "seed-stage1", settings["batch"])
        self.host = {k: v.pin_memory() for k, v in host.items()} if self.device.type == "cuda" else host
        self.batch = {k: v.to(self.device) for k, v in host.items()}

    def round_frozen(self):
        """Frozen weights of the towers are bf16; what trains keeps its fp32 masters."""
        import torch

        for module in (self.model.vision, self.model.text):
            for p in module.parameters():
                if not p.requires_grad:
                    p.data = p.data.to(torch.bfloat16)

    def make_optimizer(self, named):
        import torch

        groups = [
            {"params": [p for n, p in named if (p.dim() > 1) == decayed and n.startswith("vision.") == vision],
             "lr": 1e-5 if vision else 1e-4, "weight_decay": 1e-4 * decayed}
            for decayed, vision in itertools.product((True, False), repeat=2)
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], capturable="graph" in self.settings["mode"],
                                 **{self.settings["optimizer"]: True})

    def bring(self):
        """The batch to the device, if that is another place."""
        for k, v in self.host.items():
            if v is not self.batch[k] and self.device.type == "cuda":
                self.batch[k].copy_(v, non_blocking=True)


def make_parts(work):
    """The step in three: what is frozen of the image tower, the phrase encoder, and all that trains with the loss."""
    import torch

    model, blocks, frozen = work.model, work.blocks, work.frozen
    kind = torch.bfloat16 if work.bf16 else torch.float32
    trunk = torch.no_grad()(lambda p: model.image_trunk(p, frozen, kind) if blocks else model.image_top(model.image_trunk(p, frozen, kind), frozen))
    phrases = torch.no_grad()(model.phrases)
    trained = model.loss
    if blocks:
        trained = lambda image, *rest: model.loss(model.image_top(image, frozen), *rest)
    if blocks == len(model.vision.blocks):
        trunk, trained = lambda p: p, lambda p, *rest: model.loss(model.image_top(model.image_trunk(p, 0), 0), *rest)
    mode = work.settings["mode"]
    if "compile" in mode or mode == "reduce-overhead":
        how = {"mode": mode} if mode == "reduce-overhead" else {}
        packed = {"options": {"freezing": True}} if work.device.type == "cpu" else how
        if frozen:
            trunk = torch.compile(trunk, **packed)
        phrases, trained = torch.compile(phrases, **packed), torch.compile(trained, **how)
    return trunk, phrases, trained


def make_step(work):
    """A function that runs one training step on the batch and returns its loss."""
    import torch

    trunk, phrases, trained = make_parts(work)
    x, mode = work.batch, work.settings["mode"]
    cached = phrases(x["ids"]).clone() if "-cached" in work.case or "-stored" in work.case else None
    stored = trunk(x["pixels"]).clone() if "-stored" in work.case else None

    def step():
        if mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        text = phrases(x["ids"]) if cached is None else cached
        image = trunk(x["pixels"]) if stored is None else stored
        with torch.autocast(work.device.type, torch.bfloat16, enabled=work.bf16):
            loss = trained(image, text, x["counts"], x["targets"])
        work.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(work.parameters, 0.1, foreach=True)
        work.optimizer.step()
        return loss.detach()

    return step


def recorded(step):
    """The step as a CUDA graph."""
    import torch

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay():
        graph.replay()
        return loss

    return replay


def prepare(case, settings):
    """A function that brings the batch and runs one training step, and one that waits for what it has begun."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    torch.set_flush_denormal(True)
    set_precision(settings["precision"])
    work = Work(case, settings)
    step = make_step(work)
    if settings["mode"].endswith("graph"):
        step = recorded(step)

    def whole():
        work.bring()
        return step()

    return whole, torch.cuda.synchronize if work.device.type == "cuda" else lambda: None


def measure(case, settings, args):
    """In this process: wall and CPU time per step, and how busy the threads were (low where other programs ran)."""
    step, wait = prepare(case, settings)
    losses = [round(step().item(), 3) for _ in range(WARM_UP)]
    walls, cpu = [], time.process_time()
    begin = time.perf_counter()
    while len(walls) < args.rounds and (not walls or time.perf_counter() - begin < args.seconds):
        start = time.perf_counter()
        for _ in range(args.steps):
            step()
        wait()
        walls.append(1000 * (time.perf_counter() - start) / args.steps)
    cpu, whole = time.process_time() - cpu, time.perf_counter() - begin
    return {"ms": round(statistics.median(walls), 3), "min_ms": round(min(walls), 3),
            "cpu_ms": round(1000 * cpu / len(walls) / args.steps, 3), "busy": round(cpu / whole / settings["threads"], 2),
            "rounds": len(walls), "first_losses": losses, "settings": settings}


def try_here(case, settings, args):
    """Several settings in one process, which takes a GPU long to start."""
    import gc

    import torch

    try:
        result = measure(case, settings, args)
        result["memory_mb"] = torch.cuda.max_memory_allocated() >> 20
    except Exception as error:
        result = {"ms": None, "settings": settings, "error": f"{type(error).__name__}: {error}".splitlines()[:1]}
    gc.collect()
    torch.compiler.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return result


def measure_apart(case, settings, args):
    """In a process of its own, whose allocator has the settings' environment."""
    threads = str(settings["threads"])
    env = {**os.environ, **MALLOC[settings["malloc"]], "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if settings["wait"] != "default":
        env["OMP_WAIT_POLICY"] = settings["wait"]
    command = [sys.executable, __file__, "--here", json.dumps(settings), "--rounds", str(args.rounds), "--steps", str(args.steps),
               "--seconds", str(args.seconds), case]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        return {"ms": None, "settings": settings, "error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.splitlines()[-1])


def check():
    """At tiny size, without dropout, the peer's loss and gradient norm are the oracle's."""
    import numpy as np
    import torch

    import oracle
    from cases import CASES as PARITY

    for name in ("tiny-seed", "tiny-strong"):
        c = PARITY[name]
        W, x = oracle.weights(c, torch.float32), oracle.inputs(c)
        model = build()(c)
        model.load_state_dict(W)
        out = oracle.criterion(c, W, x, oracle.forward(c, W, x, *oracle.towers(c, W, x)))
        out["total"].backward()
        image = model.image_top(model.image_trunk(torch.from_numpy(x["pixels"]), 1), 1)
        text = model.phrases(torch.from_numpy(x["token_ids"]).long())
        loss = model.loss(image, text, torch.from_numpy(x["token_counts"]), torch.from_numpy(x["targets"]))
        loss.backward()
        ours = torch.cat([p.grad.flatten() for _, p in sorted(model.named_parameters())])
        theirs = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for _, w in sorted(W.items())])
        off = float((ours - theirs).norm() / theirs.norm())
        assert abs(loss.item() - out["total"].item()) < 1e-4 and off < 1e-4, (loss.item(), out["total"].item(), off)
        print(f"{name}: loss {loss.item():.6f}, the oracle's {out['total'].item():.6f}, gradients differ by {off:.1e} of their norm")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case")
    parser.add_argument("--device", choices=list(MODES), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="of a round; on the CPU 1, on a GPU 10")
    parser.add_argument("--seconds", type=float, default=1e9, help="no round begins later")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mode", help="one or several, with commas between them")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    args.modes = args.mode.split(",") if args.mode else list(MODES[args.device] if args.search else DEFAULT_MODES[args.device])
    if set(args.modes) - set(MODES[args.device]):
        parser.error(f"--mode: on {args.device} there are {', '.join(MODES[args.device])}")
    args.steps = args.steps or {"cpu": 1, "cuda": 10}[args.device]
    return args


def machine(device):
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())


def main():
    args = arguments()
    if args.check:
        return check()
    if args.here:
        return print(json.dumps(measure(args.cases[0], json.loads(args.here), args)))
    options = {name: [value] for name, value in BEST.items()} | {"mode": args.modes}
    if args.search and args.device == "cpu":
        options |= {"malloc": list(MALLOC), "optimizer": ["fused", "foreach"], "wait": ["default", "passive"]}
    fixed = {"threads": args.threads, "device": args.device, "precision": args.precision, "batch": args.batch}
    results, take = {}, try_here if args.device == "cuda" else measure_apart
    for case in args.cases or CASES:
        tried = []
        for values in itertools.product(*options.values()):
            tried.append(take(case, {**dict(zip(options, values)), **fixed}, args))
            print(json.dumps({case: tried[-1]}), file=sys.stderr, flush=True)
        results[case] = min(tried, key=lambda r: r["ms"] or float("inf"))
    print(json.dumps({"machine": machine(args.device), "load": os.getloadavg()[0], "cases": results}, indent=1))


if __name__ == "__main__":
    main()
