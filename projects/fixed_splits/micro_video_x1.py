"""MicroVideo1.7M_x1 in the protocol of the benchmark, beside its stream (projects/micro_video.py).

All items of the test rows are new, so what is known of them is their category and the vector of their image. Vectors
come in HDF5: python -m projects.convert_vectors item_image_emb_dim64.h5 item_image.parquet.
"""

from exfm import Bag, Column, DCNv2, Files, FixedSplit, From, SideTable, Training, Vector
from projects.fixed_splits.figures import BY_TEST, MICRO_VIDEO

LISTS = {"clicked_items": "item_id", "clicked_categories": "cate_id"}


def _files(name: str) -> Files:
    return Files(paths=(name,), columns=tuple(From(name=each, of=each, split="^") for each in LISTS))


SPLIT = FixedSplit(
    name="micro_video_x1",
    train=_files("train.csv"),
    test=_files("test.csv"),
    label="is_click",
    group="user_id",
    columns=(
        Column(name="user_id", rows=2**15),
        Column(name="item_id", rows=2**21),
        Column(name="cate_id", rows=2**12),
    ),
    bags=tuple(Bag(name=name, of=of, pooling="attention", length=100) for name, of in LISTS.items()),
    tables=(
        SideTable(
            files=Files(paths=("item_image.parquet",)),
            key="item_id",
            inputs=(Vector(name="image", width=64),),
            made_by="python -m projects.convert_vectors item_image_emb_dim64.h5 item_image.parquet",
        ),
    ),
    network=DCNv2(embedding=64, cross=2, hidden=(512, 256, 128)),
    training=Training(batch_size=8192, learning_rate=1e-3, table_learning_rate=0.02),
    published=MICRO_VIDEO,
    source=BY_TEST,
)
