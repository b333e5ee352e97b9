"""Running the tiny project's graph in a test, and comparing what two runs left.

Belongs here: one way to run, one way to compare. Not here: what a test expects.
"""

import hashlib
import json
from pathlib import Path

import dagster as dg
import polars as pl

from exfm_assets import metadata_keys as keys
from exfm_assets.definitions import build_defs
from exfm_assets.main_job import EVERYDAY
from exfm_assets.progress import sentence
from pipeline.workspace import Workspace

AUDIT = ("created_timestamp", "run_id")  # of predictions: when and by which run, not what
FIRST, LAST = "2026-01-01", "2026-01-05"


def run(
    work: Workspace,
    first: str = FIRST,
    last: str = LAST,
    select: str | dg.AssetSelection | None = None,
    instance: dg.DagsterInstance | None = None,
    *,
    checks: bool = True,
) -> dg.ExecuteInProcessResult:
    """Materialise a range of slices, of all assets but studies, or of a selection; failures are in the result."""
    result = _run(work, first, last, select, instance, checks=checks)
    if result.success or any(sentence.partition(":")[0] not in _DAGSTERS_OWN for sentence in sentences(result)):
        return result
    # Dagster's in-memory instance fails now and then in a long process ("database table is locked", dagster #18727):
    # then no step of ours said anything. What we run is safe to run again, and a fault of ours fails again.
    return _run(work, first, last, select, instance, checks=checks)


_DAGSTERS_OWN = ("OperationalError", "ProgrammingError", "InterfaceError", "DatabaseError")


def _run(
    work: Workspace,
    first: str,
    last: str,
    select: str | dg.AssetSelection | None,
    instance: dg.DagsterInstance | None,
    *,
    checks: bool,
) -> dg.ExecuteInProcessResult:
    defs = build_defs(work)
    chosen = select or EVERYDAY
    selection = dg.AssetSelection.from_string(chosen) if isinstance(chosen, str) else chosen
    return dg.materialize(
        [*(defs.assets or []), *(defs.asset_checks or [])],
        selection=selection if checks else selection.without_checks(),
        resources={"work": work},
        instance=instance,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        raise_on_error=False,
    )


def failed_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    """Names of checks that did not pass."""
    evaluations = result.get_asset_check_evaluations()
    return [
        f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
        for evaluation in evaluations
        if not evaluation.passed
    ]


def sentences(result: dg.ExecuteInProcessResult) -> list[str]:
    """What the failed steps said, as a person reads it."""
    return [sentence(event.step_failure_data.error) for event in result.get_step_failure_events()]


def made_by(result: dg.ExecuteInProcessResult) -> set[tuple[dg.AssetKey, str]]:
    """The slices that a run made, not those that it found standing."""
    return {
        (event.materialization.asset_key, event.materialization.partition)
        for event in result.get_asset_materialization_events()
        if event.materialization.partition
        and not event.materialization.metadata.get(keys.REUSED, dg.MetadataValue.bool(False)).value
    }


def left_by(work: Workspace) -> dict[str, str]:
    """Digests of all that a run left, but for what says when it ran. Older runs of a prediction count as superseded."""
    folder = work.state.folder
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith(("feast/", "logs/")):
            continue
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # what a killed writer left: hidden, and swept up later
        if name.startswith("releases/") and path.name != "current.json":
            continue  # earlier releases stay: how many there were depends on how often one was asked for
        if "/predictions/" in name:
            if path.suffix != ".parquet" or path != max(path.parent.glob("*.parquet")):
                continue
            name = f"{path.parent.relative_to(folder)}/{path.stem.partition('-')[2]}"
            digests[name] = _rows(pl.read_parquet(path, glob=False).drop(AUDIT))
            digests[f"{name}.json"] = json.dumps(_made_of(path.with_suffix(".json")))
        elif (
            path.suffix == ".json" and path.with_suffix(".parquet").is_file()
        ):  # a sidecar: of its file, and of what that was made of
            digests[name] = json.dumps(_made_of(path))
        elif path.name == "report.html":
            digests[name] = "there"  # its text says when it was written
        elif path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            del manifest["made_with"]
            digests[name] = json.dumps(manifest, sort_keys=True)
        elif path.name == "current.json":
            digests[name] = json.loads(path.read_text())["version"]
        else:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _made_of(sidecar: Path) -> dict[str, str]:
    """What a sidecar says, but for the times of the log's files."""
    plain = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    return dict(sorted(plain.get("made_of", {}).items()))


def _rows(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
