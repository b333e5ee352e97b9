"""Which columns of the log each feature of a view is made of, for Dagster's catalogue.

Belongs here: names of columns and where they come from. Not here: making the features (assets/features.py).
"""

from exfm.computed_views import PythonView, SqlView
from exfm.history_views import ACTION, AT, LAST, HistoryView
from exfm.source_views import SourceView
from exfm_assets.assets.common import Lineage
from exfm_assets.assets.stream import IMPRESSIONS, INTERACTIONS, OUTCOMES
from pipeline.transforms.view_rows import KeptView

_TABLES = {"interactions": INTERACTIONS, "impressions": IMPRESSIONS}
_TIMES = {INTERACTIONS: "event_timestamp", IMPRESSIONS: "event_timestamp", OUTCOMES: "outcome_timestamp"}


def view_lineage(view: KeptView) -> Lineage:
    """The columns that each column of a view's table comes from; none where that can't be known."""
    if isinstance(view, SourceView | SqlView | PythonView):
        return {}  # which columns a table, a query or a function is made of is not known
    if isinstance(view, HistoryView):
        return _of_history(view)
    counts = {}
    for feature in view.count_features:
        table = _TABLES.get(feature.rpartition("_")[0], OUTCOMES)
        counts[feature] = [(table, _TIMES[table])]
    rates = {name: [(table, _TIMES[table]) for table in (OUTCOMES, IMPRESSIONS)] for name in view.rate_features}
    return {**{entity: [(IMPRESSIONS, entity)] for entity in view.entities}, **counts, **rates}


def _of_history(view: HistoryView) -> Lineage:
    read = list(dict.fromkeys(_TABLES.get(source, OUTCOMES) for source in view.sources))
    listed = dict.fromkeys(IMPRESSIONS if table == OUTCOMES else table for table in read)
    columns = {view.entity: view.entity, LAST: view.of} | {name: name for name in view.beside}
    met = {ACTION: [(OUTCOMES, "task")]} if OUTCOMES in read and len(view.sources) > 1 else {}
    met |= {AT: [(table, _TIMES[table]) for table in read]} if view.since else {}
    return {name: [(table, of) for table in listed] for name, of in columns.items()} | met
