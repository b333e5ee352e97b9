"""What a person sees of a run while it goes on: read from Dagster's event log, never from its log lines.

Belongs here: which events matter, and how they are worded. Not here: starting the run (main_job.py), the table at the
end (report/terminal.py).
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster_shared.error import SerializableErrorInfo
from rich.console import Console
from rich.markup import escape

from exfm_assets import metadata_keys as keys
from exfm_assets.pace import Pace

POLL_SECONDS = 0.2
PLAIN_SECONDS = 30.0  # between lines where there is no terminal to show a moving one
ACCOUNT = " rows read, "  # in the sentence that says what became of a table of the log
_STARTED, _SUCCEEDED = dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS
_FAILED, _CHECKED = dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION
_OWN_ERRORS = (
    "DataError", "UnsettledError", "DeclarationError", "StateError", "CheckpointError", "DamagedError", "LearningError",
    "RetrievalError", "MirrorError", "Failure",
)  # fmt: skip
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED


@dataclass
class Progress:
    """Follows one run's events.

    Args:
        quiet: say only what went wrong.
    """

    console: Console
    quiet: bool = False
    pace: Pace = field(default_factory=Pace)
    failed: bool = False
    _started: dict[str, float] = field(default_factory=dict)
    _slices: dict[str, Counter[str]] = field(default_factory=dict)
    _planned: dict[str, None] = field(default_factory=dict)  # steps, in their order
    _cursor: str | None = None

    def read(self, instance: dg.DagsterInstance, run_id: str) -> str:
        """Take what was written since the last call; gives back what the run is doing now, and how far it is."""
        while True:
            page = instance.event_log_storage.get_records_for_run(run_id, self._cursor, limit=1000)
            self._cursor = page.cursor
            for record in page.records:
                self._handle(record.event_log_entry)
            if not page.has_more:
                return self.pace.words()

    def _handle(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            self._log_line(entry)
        elif event.event_type == _STARTED and event.step_key:
            self._started[event.step_key] = entry.timestamp
            self.pace.begin(event.step_key, entry.timestamp)
        elif event.event_type == _SUCCEEDED and event.step_key:
            self._step(event.step_key, entry.timestamp)
        elif event.event_type == _FAILED and event.step_key:
            self._failure(event.step_key, entry.timestamp, event.step_failure_data.error)
        elif event.event_type == _CHECKED:
            self._check(event.asset_check_evaluation_data)
        elif event.event_type == _MADE and event.step_key:
            self._materialised(event.step_key, event.step_materialization_data.materialization)
        elif event.event_type == _PLANNED and event.step_key:
            self._planned[event.step_key] = None
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE and not self.failed:
            self.failed = True
            self._print("red", sentence(event.job_failure_data.error) or event.message or "the run failed")

    def _log_line(self, entry: EventLogEntry) -> None:
        if entry.user_message.startswith("Dependencies for step"):
            return  # Dagster says it of each step and check below a failed one; ``close`` says it once
        if int(entry.level) >= logging.WARNING:
            self._print("yellow", entry.user_message)
        elif ACCOUNT in entry.user_message and not self.quiet:
            self.console.print(f"  {escape(entry.user_message)}")
        elif entry.step_key and not entry.step_key.startswith("check_"):
            self.pace.line(entry.user_message)

    def _materialised(self, step: str, made: dg.AssetMaterialization) -> None:
        if made.partition is not None:
            reused = made.metadata.get(keys.REUSED)
            kind = "reused" if reused is not None and reused.value else "made"
            self._slices.setdefault(step, Counter())[kind] += 1

    def _step(self, name: str, at: float) -> None:
        if not self.quiet and not name.startswith("check_"):
            counted = self._slices.get(name, Counter())
            words = ", ".join(f"{counted[kind]} {kind}" for kind in ("made", "reused") if counted[kind])
            line = f"  {name:<28} {at - self._started.get(name, at):7.1f} s"
            self.console.print(f"{line}  {words}" if words else line)

    def _failure(self, name: str, at: float, error: SerializableErrorInfo | None) -> None:
        self.failed = True
        seconds = at - self._started.get(name, at)
        self._print("red", f"{name} failed after {seconds:.1f} s: {sentence(error) or 'see the log'}")

    def _check(self, evaluation: dg.AssetCheckEvaluation) -> None:
        if evaluation.passed:
            return
        blocks = evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR
        message = f"check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}: {evaluation.description}"
        self._print("red" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "yellow", message)
        if blocks:
            self.failed = True

    def close(self) -> None:
        """Say which steps never ran because of what failed above them."""
        not_run = [name for name in self._planned if name not in self._started]
        if self.failed and not_run:
            self._print("yellow", f"not run, for what they need is not there: {', '.join(not_run)}")

    def _print(self, colour: str, text: str) -> None:
        self.console.print(f"  [{colour}]{escape(text.strip())}[/{colour}]")


def sentence(error: SerializableErrorInfo | None) -> str:
    """The error that our code raised, in its own words: below Dagster's wrapping, above what caused it."""
    if error is None:
        return ""
    chosen = error.cause if error.cause is not None and (error.cls_name or "").startswith("Dagster") else error
    name, _, text = chosen.message.strip().partition(": ")
    kind = name.rpartition(".")[2]
    return text if kind in _OWN_ERRORS else f"{kind}: {text}"


def follow(
    console: Console,
    progress: Progress,
    instance: dg.DagsterInstance,
    run_of: Callable[[], str | None],
    is_over: Callable[[], bool],
) -> str | None:
    """Show a run until its process is over; gives back the run, ``None`` if there was none.

    Args:
        run_of: the run of that process, once it has one.
    """
    run_id: str | None = None
    said_at = time.monotonic()
    with console.status("starting") as status:
        over = False
        while not over:
            over = is_over()  # asked before the last read, so that nothing written before it is missed
            run_id = run_id or run_of()
            if run_id is not None:
                words = progress.read(instance, run_id)
                status.update(escape(words[: max(console.width - 4, 20)]))
                if not console.is_terminal and not progress.quiet and time.monotonic() - said_at > PLAIN_SECONDS:
                    said_at = time.monotonic()
                    console.print(f"  {escape(words)}")
            if not over:
                time.sleep(POLL_SECONDS)
    progress.close()
    return run_id
