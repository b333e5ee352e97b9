"""How a run executes: all steps in one process, under a lock that shows that it lives.

Belongs here: the executor. Not here: the locks and what becomes of dead runs (running.py).

Steps share a process, so that imports, the Feast store and the page cache are paid for once a run. It differs from
Dagster's own in-process executor in three things: the run holds a lock while it lives, runs of dead processes are ended
before it begins and while it waits, and a step that waits for a pool logs who holds it and sleeps meanwhile.
"""

import time
from collections.abc import Iterator

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor

from exfm_assets.running import RunLocks, end_dead_runs, holders_of

WAIT_SECONDS = 0.5  # between two tries for a slot
SAY_SECONDS = 30.0  # between two lines about the same wait


class _PoolSlots(InstanceConcurrencyContext):
    """A run's claims: Dagster's, but a wait is logged, a dead holder's slot is freed, and a waiting step sleeps."""

    def __init__(self, context: PlanExecutionContext) -> None:
        super().__init__(context.instance, context.dagster_run)
        self._context = context
        self._warned_at: dict[str, float] = {}

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        claimed = super().claim(concurrency_key, step_key, step_priority)
        if not claimed and time.monotonic() - self._warned_at.get(step_key, -SAY_SECONDS) >= SAY_SECONDS:
            self._warned_at[step_key] = time.monotonic()
            instance, log = self._context.instance, self._context.log
            for message in end_dead_runs(instance):
                log.warning(message)
            log.warning(f"{step_key} waits for pool {concurrency_key}, held by {holders_of(instance, concurrency_key)}")
        return claimed

    def interval_to_next_pending_claim_check(self) -> float:
        """Dagster 1.13 gives 0 or less here, and its loop spins at full speed for as long as the step waits."""
        return WAIT_SECONDS if self.has_pending_claims() else 0.0


def _steps(job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
    """Dagster passes these by name."""
    instance = job_context.instance
    with RunLocks.of(instance).held(job_context.run_id), _PoolSlots(job_context) as slots:
        for message in end_dead_runs(instance):
            job_context.log.warning(message)
        yield from inner_plan_execution_iterator(job_context, execution_plan, slots)


class OneProcessExecutor(Executor):
    """Runs all steps of a run in its own process, one after the other."""

    @property
    def retries(self) -> RetryMode:
        return RetryMode.ENABLED

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        manager = PlanExecutionContextManager(
            job=plan_context.job,
            retry_mode=plan_context.retry_mode,
            execution_plan=plan_context.execution_plan,
            run_config=plan_context.run_config,
            dagster_run=plan_context.dagster_run,
            instance=plan_context.instance,
            raise_on_error=plan_context.raise_on_error,
            output_capture=plan_context.output_capture,
        )
        yield from iter(
            ExecuteRunWithPlanIterable(
                execution_plan=plan_context.execution_plan, iterator=_steps, execution_context_manager=manager
            )
        )


@dg.executor(name="one_process", requirements=[])
def one_process(init_context: dg.InitExecutorContext) -> Executor:
    """One run, one process."""
    return OneProcessExecutor()
