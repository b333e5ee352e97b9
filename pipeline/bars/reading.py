"""The files of a fixed split as tensors on disk.

Belongs here: reading each file once, in memory that does not grow with it. Not here: shards (shards.py), training
(training.py), what a column becomes (pipeline/imports/).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import torch

from exfm.encoding import id_encoding
from exfm.fixed_split import FixedSplit, SideTable
from exfm.inputs import Vector
from exfm.log_files import Files
from pipeline.bars.shards import Shard, Shards
from pipeline.imports.connection import connected, explained, watched
from pipeline.imports.converting import Conversion, Target, conversion_of, names_of
from pipeline.imports.finding import SourceFile, find_files
from pipeline.imports.line_ends import SeveralEnds, reading_any_ends
from pipeline.imports.lines import by_one_thread, lines_of
from pipeline.imports.reading import Relation, literal, naming, quoted, rejected_lines, relation_of
from pipeline.imports.selecting import KEPT, REASON, select_rows
from pipeline.imports.side_tables import read_side_table
from pipeline.streams.contract import LABEL, NO_LABEL
from pipeline.tables import DataError
from pipeline.transforms.hashes import hashes_of
from pipeline.transforms.inputs import slice_tensors, stored_type

BATCH = 2**17  # rows that are made tensors of at once
HELD_BACK = 0.1  # of the training rows, the last ones, where a set has no validation rows
ROW = "impression_id"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class FileAccount:
    """What became of a file's rows: all = used + quarantined + left out.

    Args:
        reasons: why rows were quarantined -> how many.
        left_out: by ``Files.where``.
    """

    part: str
    name: str
    rows: int
    left_out: int
    reasons: Mapping[str, int]

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    @property
    def used(self) -> int:
        return self.rows - self.left_out - self.quarantined


@dataclass
class SplitReader:
    """Reads a fixed split.

    Args:
        data: the folder of its files.
        aside: an empty folder for shards.
        accounts: of the files that were read so far.
    """

    split: FixedSplit
    data: Path
    aside: Path
    tell: Tell = lambda words: None
    accounts: list[FileAccount] = field(default_factory=list)
    _tables: list[tuple[SideTable, pl.DataFrame]] | None = None

    def check(self) -> None:
        """Refuse what lacks a file or a column, of all parts, before any is read.

        Raises:
            DataError: for the first.
        """
        for part, files in self.split.parts.items():
            for source in self._sources(part, files):
                with connected(self.aside) as connection:
                    self._opened(connection, source)
        for table in self.split.tables:
            self._has_table(table)

    def read_train(self) -> tuple[Shards, Shards]:
        """The rows to train with, and those that say when to stop: the set's own, or the last tenth of the former."""
        if self.split.valid is not None:
            return self._read("train")[0], self._read("valid")[0]
        return self._read("train", HELD_BACK)

    def read_test(self) -> Shards:
        """The rows to judge with: called when all else is decided."""
        return self._read("test")[0]

    def _sources(self, part: str, files: Files) -> list[SourceFile]:
        where = f"FixedSplit({self.split.name}).{part}"
        sources = list(find_files(where, files, self.data, []))
        if not sources:
            raise DataError(f"{where}: Files.paths name no file whose ending says of its kind: set Files.kind")
        return sources

    def _schema(self) -> dict[str, pl.DataType]:
        split, encoder = self.split, self.split.encoder
        own = (*split.ids, *(number.name for number in split.numbers), *(bag.name for bag in split.bags))
        return {split.label: LABEL, **{name: stored_type(encoder[name]) for name in own}}

    def _opened(self, connection: duckdb.DuckDBPyConnection, source: SourceFile) -> tuple[Relation, Conversion]:
        schema = self._schema()
        if self.split.group is not None and self.split.group not in schema:
            schema[self.split.group] = pl.String()
        relation = relation_of(connection, source, names_of(source.files))
        return relation, conversion_of(connection, relation, source, Target(schema, None, tuple(schema)))

    def stage(self, part: str) -> list[tuple[Path, int]]:
        """Convert each file of a part; staged files with the rows that each had."""
        staged = []
        for number, source in enumerate(self._sources(part, self.split.parts[part])):
            path = self.aside / f"{part}-{number}.parquet"
            staged.append((path, reading_any_ends(source, self.aside, partial(self._stage, part, path))))
        return staged

    def _stage(self, part: str, path: Path, source: SourceFile) -> int:
        words = f"reading {source.name} ({source.path.stat().st_size / 2**20:,.0f} MiB)"
        lines = lines_of(source)
        SeveralEnds.refuse(source, lines)
        with connected(self.aside) as connection:
            relation, conversion = self._opened(connection, source)
            relation = by_one_thread(relation, lines)
            label = quoted(self.split.label)
            query = (
                f"SELECT * REPLACE (CASE WHEN NOT {quoted(KEPT)} THEN NULL WHEN {quoted(REASON)} IS NOT NULL THEN "
                f"{quoted(REASON)} WHEN {label} IS NULL THEN 'null label' WHEN {label} = {NO_LABEL} THEN "
                f"'the label is neither 0 nor 1' END AS {quoted(REASON)}) "
                f"FROM ({select_rows(relation, conversion, source)})"
            )
            self.tell(words)

            def of_file(share: float) -> None:
                self.tell(f"{words}: {share:.0%}")

            with naming(source), explained(source), watched(connection, of_file):
                connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION lz4)")
            return self._note(connection, part, source, path)

    def _note(self, connection: duckdb.DuckDBPyConnection, part: str, source: SourceFile, path: Path) -> int:
        """Account for a staged file; gives how many rows it has, those that were cut wrong aside."""
        read = f"read_parquet({literal(str(path))})"
        rows, left_out = connection.sql(
            f"SELECT count(*), count(*) FILTER (NOT {quoted(KEPT)}) FROM {read}"
        ).fetchall()[0]
        reasons = Counter(
            dict(
                connection.sql(
                    f"SELECT split_part({quoted(REASON)}, ':', 1) AS why, count(*) FROM {read} WHERE why IS NOT NULL "
                    "GROUP BY why ORDER BY why"
                ).fetchall()
            )
        )
        if cut := len(rejected_lines(connection)):
            reasons["no row of a CSV"] = cut
        self.accounts.append(FileAccount(part, source.name, rows + cut, left_out, dict(reasons)))
        return int(rows)

    def _read(self, part: str, held_back: float = 0.0) -> tuple[Shards, Shards]:
        """Deal the sound rows of a part to shards; those of the last places apart."""
        staged = self.stage(part)
        total = sum(rows for _, rows in staged)
        border = total - int(total * held_back)
        first, second = Shards(self.aside / part, border), Shards(self.aside / f"{part}-held-back", total - border)
        for frame in self._frames(staged):
            done = int(frame[ROW][-1]) if frame.height else 0
            self.tell(f"making tensors of {part}: row {done:,} of {total:,}")
            for shards, rows in ((first, pl.col(ROW) < border), (second, pl.col(ROW) >= border)):
                shards.add(self._tensors(frame.filter(rows)))
        for path, _ in staged:
            path.unlink()
        if not first.rows or (held_back and not second.rows):
            raise DataError(
                f"FixedSplit({self.split.name}).{part}: {total:,} rows leave none to use: see what was quarantined: "
                f"{'; '.join(f'{each.name}: {dict(each.reasons)}' for each in self.accounts if each.part == part)}"
            )
        return first, second

    def _frames(self, staged: list[tuple[Path, int]]) -> Iterator[pl.DataFrame]:
        """The sound rows, some at a time, each with its place in the part."""
        place = 0
        for path, _ in staged:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH):
                    frame = pl.DataFrame(batch).with_row_index(ROW, place).cast({ROW: pl.Int64})
                    place += frame.height
                    yield frame.filter(pl.col(KEPT), pl.col(REASON).is_null())

    def _tensors(self, frame: pl.DataFrame) -> Shard:
        split, encoder = self.split, self.split.encoder
        for table, rows in self._side_tables():
            frame = frame.join(rows, on=table.key, how="left", maintain_order="left")
        labels = frame.select(ROW, split.label)
        tensors = slice_tensors(frame, labels, split.inputs, (split.label,), encoder)
        groups = None
        if split.group is not None:
            known = encoder[split.group] if split.group in encoder else id_encoding(split.group, str)
            groups = torch.from_numpy(hashes_of(frame[split.group], known))
        return Shard(tensors, torch.from_numpy(frame[ROW].to_numpy(writable=True)), groups)

    def _has_table(self, table: SideTable) -> None:
        try:
            next(find_files(self._called(table), table.files, self.data, []), None)
        except DataError as error:
            remedy = "" if table.made_by is None else f" (it does not come with the set: {table.made_by})"
            raise DataError(f"{error}{remedy}") from error

    def _called(self, table: SideTable) -> str:
        return f"FixedSplit({self.split.name}).tables"

    def _side_tables(self) -> Iterable[tuple[SideTable, pl.DataFrame]]:
        if self._tables is None:
            self._tables = [(table, self._side_table(table)) for table in self.split.tables]
        return self._tables

    def _side_table(self, table: SideTable) -> pl.DataFrame:
        self.tell(f"reading {', '.join(table.files.paths)}")
        encoder = self.split.encoder
        schema = {name: stored_type(encoder[name]) for name in (table.key, *(each.name for each in table.inputs))}
        read = read_side_table(self._called(table), table.files, self.data, Target(schema, None, tuple(schema)))
        for each in read:
            rows = each.frame.height + sum(each.refused.values())
            self.accounts.append(FileAccount("table", each.source.name, rows, 0, dict(each.refused)))
        frame = pl.concat(each.frame for each in read).unique(table.key, keep="last")
        for vector in table.inputs:
            if isinstance(vector, Vector):
                widths = frame[vector.name].drop_nulls().list.len()
                if len(wrong := widths.filter(widths != vector.width)):
                    raise DataError(
                        f"{self._called(table)}: {vector.name} has {wrong[0]} floats, not {vector.width}: declare "
                        "its width"
                    )
        return frame
