"""What can be served: the values that are in the online store at a request, and when the graph puts them there.

Belongs here: which views a student may read, which ones the graph loads. Not here: loading (assets/features.py).

The graph makes a slice's rows when the slice has ended, and loads the online store then. So a value that is stamped
inside a slice is in the store after the slice's end, never at its stamp: a student that trained on it would be served
an older one.
"""

from datetime import datetime, timedelta

from exfm.computed_views import PythonView, SqlView
from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.prediction_views import PredictionView
from exfm.source_views import SourceView
from exfm.stream import Slice, Stream

View = FeatureView | HistoryView | SourceView | SqlView | PythonView | PredictionView


def check_served(field: str, view: View, stream: Stream) -> None:
    """Refuse a view whose values are not in the online store when a student needs them.

    Raises:
        DeclarationError: for one that is not online, or stamped more often than the graph loads it.
    """
    if not view.online:
        raise DeclarationError(
            f"{field}: {view.name!r} has online=False, so it can't be served: set online=True or drop it"
        )
    if isinstance(view, PredictionView | SourceView) or view.pushed or view.every == stream.slice_length:
        return
    raise DeclarationError(
        f"{field}: {view.name!r} has every={view.every}, but the online store is loaded when a slice of "
        f"{stream.slice_length} has ended: set every to the slice length, pushed=True if another job pushes its values "
        "that often, or drop it"
    )


def graph_loads(view: View) -> bool:
    """Does the graph load this view's values into the online store? Not where another job pushes newer ones."""
    return view.online and (isinstance(view, PredictionView) or not view.pushed)


def later_than_declared(view: View, stream: Stream, slice_: Slice, loaded: datetime) -> timedelta:
    """How much later than ``delay`` says a slice's values were in the online store; zero for a closed log.

    So long the older values were served, although models learn as if the new ones had been there.

    Args:
        slice_: the newest slice that was loaded.
        loaded: when the load had ended.
    """
    if stream.until is not None:
        return timedelta(0)
    return max(loaded - slice_.end - view.delay, timedelta(0))


def late_sentence(view: View, stream: Stream, late: timedelta) -> str:
    """What a late load means, and what to declare."""
    needed = view.delay + late
    minutes = timedelta(minutes=-(-needed // timedelta(minutes=1)))
    return (
        f"{type(view).__name__}({view.name}).delay: {view.delay} promises values in the online store so long after a "
        f"slice's end, and this load ended {needed} after it; for {late} of a slice of {stream.slice_length} older "
        f"values were served than models train on: use delay={minutes!r} or more, if runs take so long"
    )
