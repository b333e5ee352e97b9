"""The vocabulary of declarations: ``from exfm import AuxiliaryHead, DCNv2, Student``.

Belongs here: the public names. Importing them is fast: nothing of torch, Feast, Dagster or polars comes along.
"""

from exfm.alerts import Alerts
from exfm.computed_views import PythonView, SqlView
from exfm.distillation import (
    AuxiliaryHead,
    AuxiliaryTower,
    Distillation,
    KnowledgeDistillation,
    LeadAware,
    Recalibration,
    StudentAdapter,
)
from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.fixed_split import FixedSplit, Published, SideTable
from exfm.freshness import Freshness
from exfm.history_views import HistoryView
from exfm.inputs import Bag, Bucket, Cross, Number, Vector
from exfm.learning import Gate, Student, Succession, Teacher, Training
from exfm.load import load_fixed_split, load_project, load_state
from exfm.log_columns import Column, Request, Task
from exfm.log_files import EventTime, Files, From, Log
from exfm.mlflow import MLflow
from exfm.networks import DLRM, DCNv2, DeepFM, Network, TwoTower, Wukong
from exfm.prediction_views import PredictionView
from exfm.project import Drift, Project, Retention, Upkeep
from exfm.serving import Serving
from exfm.simulation import Event, Simulation
from exfm.source_views import SourceView
from exfm.state import State
from exfm.stream import Stream

__all__ = [
    "DLRM",
    "Alerts",
    "AuxiliaryHead",
    "AuxiliaryTower",
    "Bag",
    "Bucket",
    "Column",
    "Cross",
    "DCNv2",
    "DeclarationError",
    "DeepFM",
    "Distillation",
    "Drift",
    "Event",
    "EventTime",
    "FeatureView",
    "Files",
    "FixedSplit",
    "Freshness",
    "From",
    "Gate",
    "HistoryView",
    "KnowledgeDistillation",
    "LeadAware",
    "Log",
    "MLflow",
    "Network",
    "Number",
    "PredictionView",
    "Project",
    "Published",
    "PythonView",
    "Recalibration",
    "Request",
    "Retention",
    "Serving",
    "SideTable",
    "Simulation",
    "SourceView",
    "SqlView",
    "State",
    "Stream",
    "Student",
    "StudentAdapter",
    "Succession",
    "Task",
    "Teacher",
    "Training",
    "TwoTower",
    "Upkeep",
    "Vector",
    "Wukong",
    "load_fixed_split",
    "load_project",
    "load_state",
]
