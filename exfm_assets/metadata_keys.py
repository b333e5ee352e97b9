"""Names of metadata entries, each written in one place only.

Belongs here: keys. Not here: values.
"""

ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"
COLUMN_SCHEMA = "dagster/column_schema"
COLUMN_LINEAGE = "dagster/column_lineage"
URI = "dagster/uri"

DATA_VERSION = "exfm/data_version"
QUARANTINED = "exfm/quarantined"
ROWS_READ = "exfm/rows_read"
ACCOUNT = "exfm/account"
RUN_ACCOUNT = "exfm/run/account"
RUN_READ = "exfm/run/rows_read"
RUN_QUARANTINED = "exfm/run/quarantined"
CHECKPOINT = "exfm/checkpoint"
TEACHER_CHECKPOINTS = "exfm/teacher_checkpoints"
TRAINED_UNTIL = "exfm/trained_until"
LEAKS = "exfm/leaks"
COVERAGE = "exfm/prediction_coverage"
EXAMPLES_PER_SECOND = "exfm/examples_per_second"
REUSED = "exfm/reused"
NE_PLOT = "exfm/normalised_entropy"
SECONDS = "exfm/seconds"
STATUS = "exfm/status"
LATE_SECONDS = "exfm/late_seconds"
