"""Figures of the BARS benchmark (its CSV files at revision 5b5e61f), by set.

All its configurations of the first four sets stop and choose by the test rows themselves, so those figures are
optimistic: ours stop by rows that are held back. The same model on the same files differs between two published
runs by up to .006 AUC; a difference below that says nothing.
"""

from exfm import Published

PROTOCOL = "BARS, revision 5b5e61f"
BY_TEST = f"{PROTOCOL}; its validation rows are the test rows, so it is optimistic"
_MODELS = (
    "FM", "DNN", "DeepFM", "DCN", "DCNv2", "xDeepFM", "AutoInt+", "DIN", "DIEN", "BST", "DMIN", "DMR", "PPNet",
)  # fmt: skip


def _by_user(*figures: tuple[float, float, float]) -> tuple[Published, ...]:
    """(gAUC, AUC, log loss) of each of those models."""
    return tuple(
        Published(model=model, gauc=gauc, auc=auc, log_loss=log_loss)
        for model, (gauc, auc, log_loss) in zip(_MODELS, figures, strict=True)
    )


def _plain(**figures: tuple[float, float]) -> tuple[Published, ...]:
    """(AUC, log loss) by model."""
    return tuple(Published(model=model, auc=auc, log_loss=log_loss) for model, (auc, log_loss) in figures.items())


TAOBAO_AD = _by_user(
    (0.5638, 0.6234, 0.1969), (0.5733, 0.6467, 0.1931), (0.5697, 0.6364, 0.1965), (0.5739, 0.6488, 0.1930),
    (0.5749, 0.6495, 0.1929), (0.5729, 0.6393, 0.1953), (0.5744, 0.6486, 0.1930), (0.5765, 0.6524, 0.1924),
    (0.5769, 0.6529, 0.1928), (0.5763, 0.6511, 0.1928), (0.5770, 0.6511, 0.1928), (0.5768, 0.6524, 0.1931),
    (0.5726, 0.6474, 0.1945),
)  # fmt: skip
AMAZON_ELECTRONICS = _by_user(
    (0.8494, 0.8485, 0.5061), (0.8790, 0.8815, 0.4401), (0.8789, 0.8816, 0.4377), (0.8778, 0.8801, 0.4421),
    (0.8790, 0.8812, 0.4445), (0.8790, 0.8813, 0.4387), (0.8787, 0.8804, 0.4441), (0.8835, 0.8860, 0.4302),
    (0.8856, 0.8888, 0.4257), (0.8841, 0.8864, 0.4301), (0.8856, 0.8877, 0.4246), (0.8851, 0.8873, 0.4277),
    (0.8797, 0.8817, 0.4398),
)  # fmt: skip
KUAI_VIDEO = _by_user(
    (0.6599, 0.7418, 0.4398), (0.6658, 0.7453, 0.4401), (0.6665, 0.7452, 0.4400), (0.6658, 0.7461, 0.4408),
    (0.6675, 0.7470, 0.4375), (0.6696, 0.7471, 0.4377), (0.6667, 0.7469, 0.4357), (0.6696, 0.7495, 0.4321),
    (0.6711, 0.7504, 0.4330), (0.6690, 0.7484, 0.4338), (0.6726, 0.7508, 0.4302), (0.6689, 0.7485, 0.4354),
    (0.6668, 0.7464, 0.4370),
)  # fmt: skip
MICRO_VIDEO = _by_user(
    (0.6724, 0.7186, 0.4152), (0.6857, 0.7346, 0.4119), (0.6852, 0.7337, 0.4132), (0.6855, 0.7342, 0.4133),
    (0.6859, 0.7344, 0.4122), (0.6889, 0.7362, 0.4122), (0.6846, 0.7338, 0.4133), (0.6883, 0.7360, 0.4116),
    (0.6867, 0.7321, 0.4122), (0.6854, 0.7342, 0.4118), (0.6879, 0.7332, 0.4115), (0.6875, 0.7354, 0.4122),
    (0.6865, 0.7349, 0.4120),
)  # fmt: skip
CRITEO = _plain(
    LR=(0.7934, 0.4568), FM=(0.8086, 0.4431), DNN=(0.8140, 0.4380), DeepFM=(0.8143, 0.4376), DCNv2=(0.8145, 0.4376),
    MaskNet=(0.8134, 0.4387), FinalMLP=(0.8146, 0.4374), FinalNet=(0.8150, 0.4371),
)  # fmt: skip
AVAZU = _plain(
    LR=(0.7775, 0.3815), FM=(0.7887, 0.3754), DNN=(0.7928, 0.3722), DeepFM=(0.7930, 0.3719), DCNv2=(0.7931, 0.3719),
    MaskNet=(0.7944, 0.3712), FinalMLP=(0.7935, 0.3719), FinalNet=(0.7941, 0.3713),
)  # fmt: skip
