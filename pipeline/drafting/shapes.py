"""Files of one shape: found below a folder, opened for their names, grouped.

Belongs here: which files go together, and how their declaration names them. Not here: their rows (sampling.py).
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from glob import escape
from itertools import pairwise
from pathlib import Path

import duckdb

from exfm.log_files import Encoding, Files
from pipeline.drafting.naming import joined
from pipeline.drafting.words import IMPRESSIONS
from pipeline.imports.finding import SourceFile, find_files
from pipeline.imports.line_ends import reading_any_ends
from pipeline.imports.reading import header_of, naming, relation_of
from pipeline.tables import DataError

ALIKE, ALIKE_APART = 0.65, 0.8  # share of names that files of one shape have in common, in one folder and in several
OPENED = 20  # files of one form of name whose names of columns are read
SEPARATORS = ("\t", ";", "|", "\x01")
HEAD = 65_536  # bytes from which encoding and separator are known


@dataclass(frozen=True)
class Shape:
    """Files with (nearly) the same columns.

    Args:
        files: their declaration as far as opening them tells: paths, separator, encoding.
        names: of all their columns, in order.
        common: names that each file has.
    """

    files: Files
    sources: tuple[SourceFile, ...]
    names: tuple[str, ...]
    common: frozenset[str]

    @property
    def title(self) -> str:
        """How a sentence calls them."""
        return ", ".join(self.files.paths)

    @property
    def bytes(self) -> int:
        return sum(source.path.stat().st_size for source in self.sources)


def base_of(given: Iterable[Path]) -> Path:
    """The folder below which all paths lie: the draft's ``EXFM_DATA``.

    Raises:
        DataError: if a path is not there.
    """
    folders = []
    for path in given:
        whole = path.expanduser().resolve()
        if not whole.exists():
            raise DataError(f"{path} is not there: name a file or a folder")
        is_part = whole.is_file() or (whole / "_delta_log").is_dir() or "=" in whole.name
        folders.append(whole.parent if is_part else whole)
    common = Path(folders[0])
    while not all(folder.is_relative_to(common) for folder in folders):
        common = common.parent
    while "=" in common.name:
        common = common.parent
    return common


def find_shapes(
    connection: duckdb.DuckDBPyConnection, given: list[Path], folder: Path
) -> tuple[list[Shape], list[str]]:
    """Group the files below some paths; and the names of those that can't be read, for their endings say of no kind.

    Raises:
        DataError: if there is no file, or one is damaged.
    """
    unread: list[str] = []
    tables, sources = _found(given, folder, unread)
    if not sources and not tables:
        said = f", only {', '.join(unread[:3])}" if unread else ""
        raise DataError(
            f"{folder} holds no file of a log{said}: name CSV, JSON lines, parquet or Delta, "
            "with the endings .csv, .tsv, .jsonl, .parquet, plain or with .gz or .zst"
        )
    shapes = [_shape_of(connection, files, list(parts)) for files, parts in tables]
    groups: dict[tuple[str, str], list[SourceFile]] = {}
    for source in sources:
        groups.setdefault((_form(source.name), source.kind), []).append(source)
    of_forms = []
    for group in groups.values():
        try:
            of_forms.append(_shape_of(connection, _opened(group[0]), group))
        except DataError:
            if not may_be_about(group[0].name) or len(groups) == 1:
                raise
            unread += [source.name for source in group]
    merged = _merged(of_forms)
    named = [replace(each, files=replace(each.files, paths=_paths(each.sources, folder))) for each in merged]
    return [*shapes, *named], unread


def may_be_about(name: str) -> bool:
    """May a file be about the log, not a part of it: a README.txt, a metadata.json?"""
    return name.endswith((".txt", ".json"))


def _found(
    given: list[Path], folder: Path, unread: list[str]
) -> tuple[list[tuple[Files, list[SourceFile]]], list[SourceFile]]:
    """Delta tables with their files, and all other files."""
    tables: dict[str, tuple[Files, list[SourceFile]]] = {}
    others: dict[str, SourceFile] = {}
    for path in given:
        whole = path.expanduser().resolve()
        logs = [whole / "_delta_log", *whole.rglob("_delta_log")] if whole.is_dir() else []
        deltas = sorted({log.parent for log in logs if log.is_dir()})
        for delta in deltas:
            name = delta.relative_to(folder).as_posix()
            files = Files(paths=(name,), kind="delta")
            tables[name] = files, list(find_files(name, files, folder, unread))
        name = whole.relative_to(folder).as_posix()
        for source in find_files(str(path), Files(paths=(name,)), folder, unread):
            if not source.version_of and not any(source.path.is_relative_to(delta) for delta in deltas):
                others[source.name] = source
    return list(tables.values()), [others[name] for name in sorted(others)]


def _form(name: str) -> str:
    """A file's name without its numbers, and without what folders of the form ``name=value`` say."""
    parts = [re.sub(r"=.*|\d+", "=", part) for part in name.split("/")[:-1]]
    return "/".join([*parts, re.sub(r"\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "*", name.split("/")[-1])])


def _opened(source: SourceFile) -> Files:
    """What the first bytes of a text say: encoding and separator."""
    files = Files(paths=(source.name,))
    if source.kind not in ("csv", "json"):
        return files
    with naming(source):
        head = head_of(source, HEAD)
    encoding: Encoding = "utf-8"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        try:
            head[: head.rfind(b"\n") + 1].decode()
        except UnicodeDecodeError:
            encoding = "latin-1"
    files = replace(files, encoding=encoding)
    if source.kind == "csv":
        first = head.decode(encoding, errors="replace").partition("\n")[0]
        usual = source.separator
        best = max(SEPARATORS, key=first.count)
        if usual not in first and first.count(best):
            files = replace(files, separator=best)
    return files


def head_of(source: SourceFile, size: int) -> bytes:
    """The first bytes of a text, unpacked."""
    import gzip

    if source.name.endswith(".zst"):
        import pyarrow as pa

        with source.path.open("rb") as binary:
            return bytes(pa.CompressedInputStream(binary, "zstd").read(size))
    with gzip.open(source.path) if source.name.endswith(".gz") else source.path.open("rb") as file:
        return bytes(file.read(size))


def _shape_of(connection: duckdb.DuckDBPyConnection, files: Files, sources: list[SourceFile]) -> Shape:
    whole = [replace(source, files=replace(files, kind=None)) for source in sources]
    step = max(1, len(whole) // OPENED)
    opened = [_names(connection, source) for source in {*whole[::step], whole[-1]}]
    names = dict.fromkeys(name for names in sorted(opened, key=len, reverse=True) for name in names)
    common = frozenset.intersection(*(frozenset(names) for names in opened))
    return Shape(files, tuple(whole), tuple(names), common)


def _names(connection: duckdb.DuckDBPyConnection, source: SourceFile) -> list[str]:
    if source.path.stat().st_size == 0:
        raise DataError(f"{source.name} is empty: write it again, or begin its name with '_' to leave it out")
    with naming(source):
        if source.kind == "csv":
            names = header_of(source)
            numbers = [name for name in names if re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", name)]
            count_up = numbers == [str(number) for number in range(len(numbers))]
            if not count_up and (len(numbers) > len(names) / 2 or len(numbers) > 2):
                raise DataError(
                    f"{source.name}: its first line holds values, not names ({', '.join(names[:4])}, ...): write a "
                    "first line of names, or declare the log by hand with Files.header"
                )
            return [*names, *(level for level in source.levels if level not in names)]
        with tempfile.TemporaryDirectory() as aside:
            relation = reading_any_ends(source, Path(aside), lambda source: relation_of(connection, source, []))
    return [name for name in relation.columns if name != "filename"]


def _merged(shapes: list[Shape]) -> list[Shape]:
    """Shapes of which the columns are nearly the same, as one."""
    merged: list[Shape] = []
    for shape in sorted(shapes, key=lambda each: len(each.names), reverse=True):
        for place, other in enumerate(merged):
            if _are_alike(shape, other):
                merged[place] = Shape(
                    other.files,
                    tuple(sorted((*other.sources, *shape.sources), key=lambda source: source.name)),
                    tuple(dict.fromkeys((*other.names, *shape.names))),
                    other.common & shape.common,
                )
                break
        else:
            merged.append(shape)
    return merged


def _are_alike(one: Shape, other: Shape) -> bool:
    if one.sources[0].kind != other.sources[0].kind or replace(one.files, paths=("a",)) != replace(
        other.files, paths=("a",)
    ):
        return False
    left, right = {joined(name) for name in one.names}, {joined(name) for name in other.names}
    if (left & {*IMPRESSIONS}) != (right & {*IMPRESSIONS}):
        return False
    beside = _form(one.sources[0].name).rpartition("/")[0] == _form(other.sources[0].name).rpartition("/")[0]
    share = len(left & right) / len(left | right)
    return share >= (ALIKE if beside else ALIKE_APART) and len(left & right) > 2


def _paths(sources: tuple[SourceFile, ...], folder: Path) -> tuple[str, ...]:
    """Paths that mean just these files: a folder, patterns, or each by its name."""
    names = [source.name for source in sources]
    for paths in _ways(names):
        unread: list[str] = []
        try:
            meant = [source.name for source in find_files("", Files(paths=paths), folder, unread)]
        except DataError:
            continue
        if sorted(meant) == sorted(names) and not unread:
            return paths
    return tuple(names)


def _ways(names: list[str]) -> Iterator[tuple[str, ...]]:
    tops = list(dict.fromkeys(name.partition("/")[0] for name in names if "/" in name))
    if len(tops) == 1 and all("/" in name for name in names) and "=" not in tops[0]:
        yield (tops[0],)
    if len(names) == 1 and "=" not in names[0]:
        yield (names[0],)
    ending = re.sub(r"^[^.]*", "", names[0].rpartition("/")[2])
    starts = _starts(names)
    if starts and len(starts) <= 8 and all(name.endswith(ending) for name in names):
        yield tuple(f"{escape(start)}*{escape(ending)}" for start in starts)
    if ending and all(name.endswith(ending) for name in names):
        depths = {name.count("/") for name in names}
        yield (f"{'**/' if depths != {0} else ''}*{escape(ending)}",)
    folders = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
    if len(folders) <= 20 and all(folders):
        yield tuple(folders)


def _starts(names: list[str]) -> list[str]:
    """What names begin with, up to their first ``_``, ``-`` or number."""
    found = [re.match(r"[^\d]*?[_-](?=[^/]*$)|[^\d/]+(?=\d)", name) for name in names]
    if not all(found):
        return []
    starts = sorted({match[0] for match in found if match})
    return [] if any(after.startswith(before) for before, after in pairwise(starts)) else starts
