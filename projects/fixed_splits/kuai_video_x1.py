"""KuaiVideo_x1 in the protocol of the benchmark, beside its stream (projects/kuai_video.py).

``pos_items`` and ``neg_items`` are the first 100 items that a user clicked and passed over, whenever the row was: a
row from before has its own future in them. They are read here, for the published figures are of that; the stream
leaves them out. Vectors come in HDF5: python -m projects.convert_vectors item_visual_emb_dim64.h5 item_visual.parquet.
"""

from exfm import Bag, Column, DCNv2, Files, FixedSplit, From, SideTable, Training, Vector
from projects.fixed_splits.figures import BY_TEST, KUAI_VIDEO

LISTS = ("pos_items", "neg_items")


def _files(name: str) -> Files:
    return Files(paths=(name,), columns=tuple(From(name=each, of=each, split="^") for each in LISTS))


SPLIT = FixedSplit(
    name="kuai_video_x1",
    train=_files("train.csv"),
    test=_files("test.csv"),
    label="is_click",
    group="user_id",
    columns=(Column(name="user_id", rows=2**15), Column(name="item_id", rows=2**20)),
    bags=tuple(Bag(name=name, of="item_id", pooling="attention", length=100) for name in LISTS),
    tables=(
        SideTable(
            files=Files(paths=("item_visual.parquet",)),
            key="item_id",
            inputs=(Vector(name="image", width=64),),
            made_by="python -m projects.convert_vectors item_visual_emb_dim64.h5 item_visual.parquet",
        ),
    ),
    network=DCNv2(embedding=64, cross=2, hidden=(512, 256, 128)),
    training=Training(batch_size=8192, learning_rate=1e-3, table_learning_rate=0.02),
    published=KUAI_VIDEO,
    source=BY_TEST,
)
