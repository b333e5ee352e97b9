"""A live project: slices of a minute, one teacher, two students that choose what a simulated crowd is shown.

`exfm live` writes its log and keeps everything around it running. Its stream begins when that was started first.
"""

import json
from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Column,
    DCNv2,
    Drift,
    FeatureView,
    Gate,
    HistoryView,
    LeadAware,
    PredictionView,
    Project,
    ServedInputs,
    Serving,
    Simulation,
    Stream,
    Student,
    Task,
    Teacher,
    Training,
)
from exfm.state import state_root

SLICE = timedelta(minutes=1)
PER_MINUTE = 3_600  # impressions
MINUTES_A_DAY = timedelta(days=1) // timedelta(minutes=1)
WINDOWS = (5 * SLICE, 15 * SLICE)
LOADED = 2 * SLICE  # after a slice's end its values are in the online store: a run takes so long
SEEN = ("user_id", "item_id", "device", "country")


def began() -> datetime:
    """Start of the first slice: as it was written down when the world began; the same in every process."""
    try:
        plain = json.loads((state_root() / "live" / "world.json").read_text(encoding="utf-8"))
        return datetime.fromisoformat(plain["first_slice"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime(2026, 1, 1, tzinfo=UTC)  # it has not begun yet


STREAM = Stream(
    first_slice=began(),
    slice_length=SLICE,
    user=Column(name="user_id", rows=2**14),
    item=Column(name="item_id", rows=2**13),
    surface=Column(name="surface", rows=8, dtype=str),
    surfaces=("feed", "video"),
    context=(Column(name="device", rows=16, dtype=str), Column(name="country", rows=16, dtype=str)),
    tasks=(Task(name="click", window=timedelta(seconds=20)),),
    lateness=SLICE,
)


def _activity(entity: str) -> FeatureView:
    return FeatureView(
        name=f"{entity}_activity", entities=(f"{entity}_id",), counts=("impressions", "click"), rates=("click",),
        windows=WINDOWS, every=SLICE, delay=LOADED, online=True,
    )  # fmt: skip


def _student(surface: str) -> Student:
    return Student(
        name=f"{surface}_click", surface=surface, task="click", teacher="large",
        inputs=(*SEEN, "item_activity:click_rate_15m", "item_opinion"),
        network=DCNv2(embedding=8, cross=1, hidden=(16,)), distillation=AuxiliaryHead(weight=4.0),
        lead=LeadAware(none_at=0.002, full_at=0.01), training=Training(batch_size=256), gate=Gate(tolerance=0.01),
        serving=Serving(exploration=0.02),
    )  # fmt: skip


PROJECT = Project(
    name="live",
    stream=STREAM,
    # A crowd that gets to know its items within an hour: births and lives are told in days.
    simulation=Simulation(
        impressions_per_day=PER_MINUTE * MINUTES_A_DAY, users=600, items=150, new_users_per_day=5 * MINUTES_A_DAY,
        new_items_per_day=1 * MINUTES_A_DAY, half_life_days=60 / MINUTES_A_DAY, drift="none", live=True,
    ),
    feature_views=(
        _activity("item"),
        _activity("user"),
        HistoryView(
            name="user_history", entity="user_id", of="item_id", source="click", length=20, window=WINDOWS[1],
            every=SLICE, delay=LOADED,
        ),
    ),
    prediction_views=(
        PredictionView(
            name="item_opinion", teacher="large", tasks=("click",), entities=("item_id",), windows=WINDOWS,
            delay=LOADED,
        ),
    ),
    teachers=(
        Teacher(
            name="large", tasks=("click",), inputs=("surface", *SEEN, "item_activity", "user_activity", "user_history"),
            network=DCNv2(embedding=16, cross=2, hidden=(64, 32)),
            training=Training(batch_size=512, learning_rate=1e-3, table_learning_rate=0.05),
        ),
    ),
    students=(_student("feed"), _student("video")),
    served=ServedInputs(within=timedelta(minutes=1)),
    drift=Drift(slices=3),
)  # fmt: skip
