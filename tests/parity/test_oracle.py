"""The oracle itself, against PyTorch's, timm's and torchvision's own modules. Run: python tests/parity/test_oracle.py"""

import itertools
import math
import pathlib
import re
import types

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torchvision.ops import generalized_box_iou

import ops
import oracle
from cases import CASES, FULL, TINY, changed

D, HEADS = 32, 4
FUSION = {"heads": HEADS, "pre_norm": False, "pos_in_values": False}


class NoDropout:
    def __call__(self, place, x):
        return x

    probabilities = __call__


def randomised(module):
    """A module with random parameters, and the dictionary the oracle reads, under the prefix `layer.`"""
    for p in module.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    return module.double().eval(), {"layer." + k: v.double() for k, v in module.named_parameters()}


def close(a, b, bound=1e-12):
    assert (a - b).abs().max() <= bound, float((a - b).abs().max())


def parameter_counts_are_the_published_ones():
    shapes = oracle.shapes(FULL)
    count = {prefix: sum(math.prod(s) for n, s in shapes.items() if n.startswith(prefix)) for prefix in ("vision.", "text.", "decoder.layers.0.")}
    assert count["vision."] == 22_057_344
    assert count["text."] == 124_055_040
    assert count["decoder.layers.0."] == 1_578_752
    assert sum(math.prod(s) for n, s in shapes.items() if not n.startswith(("vision.", "text."))) == 9_905_670


def the_full_tower_is_timms_named_model():
    ours = {n: p.shape for n, p in oracle.vision_tower(changed(FULL, side=518)).named_parameters()}
    named = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, num_classes=0)
    assert ours == {n: p.shape for n, p in named.named_parameters()}


def attention_is_that_of_torch():
    module, W = randomised(torch.nn.MultiheadAttention(D, HEADS, batch_first=True))
    q, k, v = (torch.randn(3, n, D, dtype=torch.double) for n in (5, 7, 7))
    masked = torch.arange(7) >= torch.tensor([[7], [3], [1]])
    ours = oracle.attend(W, "layer", q, k, v, HEADS, masked, NoDropout())
    close(ours, module(q, k, v, key_padding_mask=masked)[0])


def layers_are_those_of_torch():
    for pre_norm in (False, True):
        f = {**FUSION, "pre_norm": pre_norm}
        options = dict(dim_feedforward=48, batch_first=True, norm_first=pre_norm)
        x, memory, zero = torch.randn(2, 6, D).double(), torch.randn(2, 9, D).double(), torch.zeros(1).double()
        module, W = randomised(torch.nn.TransformerEncoderLayer(D, HEADS, **options))
        close(oracle.encoder_layer(W, "layer", x, zero, f, None, NoDropout()), module(x))
        module, W = randomised(torch.nn.TransformerDecoderLayer(D, HEADS, **options))
        close(oracle.decoder_layer(W, "layer", x, zero, memory, zero, f, None, NoDropout()), module(x, memory))


def giou_is_that_of_torchvision():
    boxes = torch.rand(2, 20, 4).double() + 0.01
    ours = oracle.giou(boxes[0][:, None], boxes[1])
    close(ours, generalized_box_iou(oracle.corners(boxes[0]), oracle.corners(boxes[1])), 1e-4)


def resampling_is_timms_to_fp32_rounding():
    table = torch.randn(1, 37 * 37, 8)
    for side in (16, 32, 40):
        close(oracle.resample(table, side), resample_abs_pos_embed(table, [side, side], num_prefix_tokens=0), 2e-5)
    assert oracle.resample(table, 37) is table
    close(oracle.resample(torch.full((1, 36, 2), 0.7), 4), torch.tensor(0.7), 1e-7)


def sine_positions_tell_rows_from_columns():
    table = oracle.sine_positions(4, 8, torch.float64).reshape(4, 4, 8)
    u = 2 * math.pi * 3 / (4 + 1e-6)  # the third row
    close(table[2, 0, :4], torch.tensor([math.sin(u), math.cos(u), math.sin(u / 100), math.cos(u / 100)]), 1e-6)
    close(table[2, :, :4], table[2, :1, :4])
    close(table[:, 2, 4:], table[2, 0, :4])


def assignments_and_margins_are_those_of_all_permutations():
    for trial in range(50):
        cost = np.random.default_rng(trial).random((5, 3))
        totals = sorted(sum(cost[q, j] for j, q in enumerate(p)) for p in itertools.permutations(range(5), 3))
        rows, cols, margin = oracle.assign(cost)
        assert abs(cost[rows, cols].sum() - totals[0]) < 1e-12 and abs(margin - (totals[1] - totals[0])) < 1e-12


def with_one_target_each_the_loss_is_detrs():
    c = changed(TINY, images=3)
    with torch.no_grad():
        W, x = oracle.weights(c, torch.float64), oracle.inputs(c)
        out = oracle.criterion(c, W, x, oracle.forward(c, W, x, *oracle.towers(c, W, x)))
    total = 0
    for l in range(2):
        of = torch.from_numpy(out["match"][:, l])
        weight = torch.tensor([1.0, np.float32(0.1)]).double()
        total += F.cross_entropy(out["logits"][l].transpose(1, 2), (of < 0).long(), weight)
        matched, targets = out["boxes"][l][of >= 0], torch.from_numpy(x["targets"][:, 0]).double()
        total += 5 * F.l1_loss(matched, targets, reduction="sum") / 3
        ious = generalized_box_iou(oracle.corners(matched), oracle.corners(targets))
        total += 2 * (1 - ious.diag()).sum() / 3
    close(total, out["total"], 1e-5)


def every_operation_has_a_case():
    text = (pathlib.Path(__file__).parents[2] / "kernels" / "ops.def").read_text()
    rows = re.findall(r"^VG_OP\((\w+)", text, re.M)
    assert set(rows) == {op for op, *_ in ops.cases()}


def names_of_a_case_are_unique_and_changes_are_checked():
    assert len(CASES) == len(set(CASES))
    try:
        changed(TINY, fusion__depth=3)
    except KeyError:
        return
    raise AssertionError("a mistyped key passed")


if __name__ == "__main__":
    torch.manual_seed(1)
    tests = [f for f in list(globals().values()) if isinstance(f, types.FunctionType) and f.__module__ == "__main__"]
    tests = [f for f in tests if f not in (randomised, close)]
    for test in tests:
        test()
    print(f"oracle: {len(tests)} tests passed")
