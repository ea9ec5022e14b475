"""The whole-model cases: one row each. A row names only what differs from its base."""

import copy

TINY = {
    "seed": 1, "images": 2, "phrases": 1, "side": 32, "text_tokens": 8, "max_targets": 1, "n_targets": [], "empty": [],
    "samples": 64, "vision": {"patch": 8, "width": 48, "depth": 2, "heads": 3, "mlp": 192, "registers": 4, "table": 6},
    "text": {"width": 48, "depth": 2, "heads": 3, "mlp": 192, "vocab": 300, "positions": 40},
    "fusion": {
        "d": 32, "heads": 4, "ffn": 64, "encoder_layers": 0, "decoder_layers": 2, "queries": 5, "text_tokens": "cls",
        "pre_norm": False, "pos_in_values": False, "query_input": False, "text_pos": False, "proj_norm": True,
        "modality": True, "image_pos": True, "aux": True, "dropout": 0.0,
    },
    "loss": {"eos": 0.1, "align": 0.0}, "train": {},
}


# At 1e-4 these weights are chaotic: an error of rounding grows tenfold every other step.
STAGE1 = {"steps": 20, "lr": 1e-5, "vision_lr": 0.0, "decay": 1e-4, "clip": 0.1, "unfreeze_blocks": 0}
STAGE2 = {"steps": 20, "lr": 1e-5, "vision_lr": 5e-6, "decay": 1e-4, "clip": 0.1, "unfreeze_blocks": 4}


def changed(base, **changes):
    """A copy of base; fusion__d=8 changes base["fusion"]["d"]."""
    out = copy.deepcopy(base)
    for path, value in changes.items():
        *groups, key = path.split("__")
        place = out
        for group in groups:
            place = place[group]
        if key not in place:
            raise KeyError(path)
        place[key] = value
    return out


FULL = changed(
    TINY, side=224, text_tokens=24, samples=64,
    vision={"patch": 14, "width": 384, "depth": 12, "heads": 6, "mlp": 1536, "registers": 4, "table": 37},
    text={"width": 768, "depth": 12, "heads": 12, "mlp": 3072, "vocab": 50265, "positions": 514},
    fusion__d=256, fusion__heads=8, fusion__ffn=2048, fusion__decoder_layers=6, fusion__queries=10,
)

FULL_STRONG = changed(FULL, fusion__text_tokens="all", fusion__encoder_layers=3)
SEED = changed(TINY, samples=1024)
STRONG = changed(SEED, fusion__text_tokens="all", fusion__encoder_layers=1)
SMALL = changed(STRONG, samples=64)
SEVERAL = dict(images=2, phrases=3, max_targets=3)

CASES = {
    "tiny-seed": SEED,
    "tiny-strong": STRONG,
    "tiny-pre-norm": changed(SMALL, fusion__pre_norm=True, fusion__encoder_layers=2),
    "tiny-pre-norm-seed": changed(TINY, fusion__pre_norm=True),
    "tiny-pos-in-values": changed(SMALL, fusion__pos_in_values=True),
    "tiny-query-input": changed(TINY, fusion__query_input=True),
    "tiny-text-pos": changed(SMALL, fusion__text_pos=True),
    "tiny-plain-projections": changed(TINY, fusion__proj_norm=False),
    "tiny-no-modality": changed(TINY, fusion__modality=False),
    "tiny-no-image-pos": changed(SMALL, fusion__image_pos=False),
    "tiny-no-aux": changed(SMALL, fusion__aux=False),
    "tiny-phrases": changed(TINY, images=3, phrases=3),
    "tiny-phrases-strong": changed(SMALL, images=3, phrases=3),
    "tiny-targets": changed(SMALL, **SEVERAL, n_targets=[3, 1, 0, 2, 3, 1]),
    "tiny-more-targets-than-queries": changed(TINY, max_targets=7, n_targets=[7, 2]),
    "tiny-no-targets": changed(TINY, n_targets=[0, 0]),
    "tiny-empty-slots": changed(SMALL, images=3, phrases=3, max_targets=2, n_targets=[1, 2, 1, 1, 1, 1, 1, 1, 1], empty=[2, 6, 7, 8]),
    "tiny-align": changed(TINY, loss__align=10.0),
    "tiny-align-strong": changed(
        SMALL, **SEVERAL, n_targets=[3, 1, 0, 2, 1, 1], empty=[5], loss__align=10.0, fusion__pre_norm=True, fusion__pos_in_values=True
    ),
    "tiny-dropout": changed(TINY, fusion__dropout=0.1),
    "tiny-dropout-strong": changed(SMALL, images=2, phrases=2, fusion__dropout=0.1),
    "full-seed-224": FULL,
    "full-strong-224": FULL_STRONG,
    "full-seed-518": changed(FULL, seed=3, side=518),
    "full-strong-518": changed(FULL_STRONG, seed=2, side=518),
    # Runs of training steps. The strong ones are steeper, and decay more than training does: 1e-4 would not show.
    "steps-seed-stage1": changed(FULL, samples=20, train=STAGE1),
    "steps-seed-stage2": changed(FULL, samples=20, train=STAGE2),
    "steps-strong-stage1": changed(FULL_STRONG, samples=20, train={**STAGE1, "lr": 2e-6, "decay": 0.5}),
    "steps-strong-stage2": changed(FULL_STRONG, samples=20, train={**STAGE2, "lr": 2e-6, "vision_lr": 1e-6, "decay": 0.5}),
}
