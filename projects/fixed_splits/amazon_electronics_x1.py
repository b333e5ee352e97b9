"""AmazonElectronics_x1: which item a user reviewed next; each review with one item that the user did not.

So the base rate is a half, of no use for calibration. Of the test rows each user's are the last review's. Networks
don't read the user. Of a history the oldest 100 items are read, as in the benchmark, whose lists are cut at their end.
"""

from exfm import Bag, Column, DCNv2, Files, FixedSplit, From, Training
from projects.fixed_splits.figures import AMAZON_ELECTRONICS, BY_TEST

HISTORIES = {"item_history": "item_id", "cate_history": "cate_id"}


def _files(name: str) -> Files:
    return Files(paths=(name,), columns=tuple(From(name=each, of=each, split="^") for each in HISTORIES))


SPLIT = FixedSplit(
    name="amazon_electronics_x1",
    train=_files("train.csv"),
    test=_files("test.csv"),
    label="label",
    group="user_id",
    columns=(Column(name="item_id", rows=2**17, dtype=str), Column(name="cate_id", rows=2**12, dtype=str)),
    bags=tuple(Bag(name=name, of=of, pooling="attention", length=100) for name, of in HISTORIES.items()),
    network=DCNv2(embedding=64, cross=2, hidden=(512, 256, 128)),
    training=Training(batch_size=1024, learning_rate=5e-4, table_learning_rate=0.02),
    published=AMAZON_ELECTRONICS,
    source=BY_TEST,
)
