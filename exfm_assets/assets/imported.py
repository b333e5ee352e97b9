"""The asset that reads a log of other files in: the canonical log is made of them, and kept in the state.

Belongs here: calling the import, reporting it. Not here: reading files (pipeline/imports/).
"""

import time
from typing import Any

import dagster as dg

from exfm.declaration import digest
from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.partitions import SINGLE_RUN
from pipeline.imports.entries import read_entries
from pipeline.imports.finding import tables_to_import
from pipeline.imports.run import Account, Progress, import_log
from pipeline.workspace import Workspace

SAID_SECONDS = 5.0  # between lines of the run's log
IMPORTED_LOG = dg.AssetKey("imported_log")


def imported_assets(project: Project) -> list[dg.AssetsDefinition]:
    """The asset, where the project's log is made of other files."""
    return [_imported_log(project)] if project.log is not None else []


def _imported_log(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=IMPORTED_LOG,
        backfill_policy=SINGLE_RUN,
        group_name="stream",
        kinds={"duckdb", "parquet"},
        code_version=digest(project.log),
    )
    def imported_log(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """The canonical log, of the files that ``Project.log`` names; rows that can't be read are quarantined."""

        said = 0.0

        def tell(progress: Progress) -> None:
            nonlocal said
            if time.monotonic() - said >= SAID_SECONDS:
                said = time.monotonic()
                of = f"{progress.number + 1:,} of {progress.count:,} files"
                context.log.info(f"imported_log: {progress.source.name} ({of}), {progress.share:.0%} of the bytes")

        account = import_log(work, tell)
        # Of what was read in before this run, it was said then.
        say = context.log.warning if account.needs_attention and account.read_in else context.log.info
        for sentence in account.sentences():
            say(sentence)
        return dg.MaterializeResult(metadata=_metadata(account), data_version=_version(work))

    return imported_log


def _metadata(account: Account) -> dict[str, Any]:
    """What came of the rows, by table."""
    said: dict[str, Any] = {keys.ROW_COUNT: sum(table.kept for table in account.tables)}
    said[keys.RUN_ACCOUNT] = "; ".join(account.sentences())
    said[keys.QUARANTINED] = {table.table: dict(table.reasons) for table in account.tables}
    for table in account.tables:
        said |= {
            f"{table.table}/rows_read": table.read,
            f"{table.table}/rows_kept": table.kept,
            f"{table.table}/rows_quarantined": table.quarantined,
            f"{table.table}/rows_left_out": table.left_out,
        }
    return said


def _version(work: Workspace) -> dg.DataVersion:
    """A digest of the files by content, and of how they were read."""
    entries = [entry for table in tables_to_import(work) for entry in read_entries(work.state.log, table).values()]
    return dg.DataVersion(digest(sorted([entry.table, entry.name, entry.sha256, entry.made_of] for entry in entries)))
