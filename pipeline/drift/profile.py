"""Profiles: of each slice how often each input had which value, so that slices can be compared without their rows.

Belongs here: bins, the stored table, the population stability index (PSI). Not here: what follows (findings.py).

Bins are fixed, so that profiles of slices add up: a number's bin is its sign and its size in half octaves, a category's
is a hash of it. PSI is the symmetric Kullback-Leibler divergence of two binned distributions; above .2 is the credit
industry's "major shift" (Siddiqi 2006). Of two samples of one distribution it is not 0 but about
(bins - 1) (1/n + 1/m) (Yurdakul and Naranjo 2020): that much is taken off. Rows of one user are alike, and so are
features of one item, so n is the effective number of users, and for features also of items (Kish 1965).
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

import numpy as np
import polars as pl

from exfm.declaration import digest
from exfm.stream import Slice, Stream
from pipeline.slices.beside import ID, beside
from pipeline.slices.provenance import impressions_now
from pipeline.tables import SliceTable
from pipeline.workspace import Workspace

CATEGORY_BINS, HALF_OCTAVES = 64, 40
VERSION = 2  # raised when bins change: profiles are made again
ONE_IN_TEN_THOUSAND = 3.719  # of the standard normal distribution
BEFORE = 3  # slices that tell who is new
USERS, ITEMS, ROWS = "users", "items", "rows"  # pseudo-columns: how many there were, in effect
SCHEMA: dict[str, pl.DataType] = {
    "surface": pl.String(),
    "column": pl.String(),
    "bin": pl.String(),
    "rows": pl.Int64(),
}


def profile_table(work: Workspace) -> SliceTable:
    """Where profiles are kept; made by ``drift_report``, whichever slice lacks one."""
    return SliceTable(work.state.table("input_profile"), "drift_report")


def profiles(work: Workspace, slices: Sequence[Slice]) -> dict[int, pl.DataFrame]:
    """The profile of each slice whose inputs are stored, by its index; made where it is missing or out of date.

    A slice whose impressions were made again, and its inputs not yet, is passed over: another report follows them.

    Raises:
        DataError: if inputs are damaged.
    """
    table, inputs, made = profile_table(work), work.table("logged_inputs"), {}
    for slice_ in slices:
        if not (inputs.has(slice_) and work.table("impressions").has(slice_) and _of_these_impressions(work, slice_)):
            continue
        before = _before(work, slice_)
        of = {
            "declaration": digest(VERSION, list(work.project.logged_columns.ids)),
            "logged_inputs": inputs.digest(slice_),
            "impressions": digest([work.table("impressions").noted(earlier) for earlier in (*before, slice_)]),
        }
        if _has_teacher_features(work, slice_):
            of["logged_teacher_features"] = work.table("logged_teacher_features").digest(slice_)
        if table.standing(slice_, of) is None:
            table.write(slice_, profile_of(work, slice_, before), of)
        made[slice_.index] = table.read([slice_])
    return made


def _of_these_impressions(work: Workspace, slice_: Slice) -> bool:
    """Are the inputs those of the impressions that are stored?"""
    sidecar = work.table("logged_inputs").sidecar(slice_)
    made_of = None if sidecar is None else sidecar.made_of.get("impressions")
    return made_of in (None, impressions_now(work, slice_))


def _has_teacher_features(work: Workspace, slice_: Slice) -> bool:
    """Are there features of a teacher's predictions, made after it had scored?"""
    of_teachers = bool(work.project.teacher_feature_columns.features)
    return of_teachers and work.table("logged_teacher_features").has(slice_)


def _before(work: Workspace, slice_: Slice) -> list[Slice]:
    stream, table = work.project.stream, work.table("impressions")
    first = stream.slice_at(max(slice_.index - BEFORE, 0))
    return [earlier for earlier in stream.slices(first.start, slice_.start) if table.has(earlier)]


def profile_of(work: Workspace, slice_: Slice, before: Sequence[Slice]) -> pl.DataFrame:
    """One row a surface, column and bin: how many rows of the slice are in it."""
    stream, logged = work.project.stream, work.table("logged_inputs")
    names = [stream.user.name, stream.item.name]
    known = {
        name: work.table("impressions").scan(before).select(name).unique().collect(engine="streaming")[name]
        for name in (names if before else ())
    }
    # By id, not by place: another process may write either meanwhile.
    ids = (part.select(ID) for part in logged.parts(slice_, [ID]))
    shown = beside(work.table("impressions"), slice_, ids, [*names, stream.surface.name])
    counts: list[pl.DataFrame] = []
    sizes = {name: list[pl.DataFrame]() for name in names}
    for frame, of_log in zip(_inputs(work, slice_), shown, strict=True):
        surface = of_log[stream.surface.name].cast(pl.String).fill_null("-").alias("surface")
        counts = [_added([*counts, *_counts(work, frame, of_log.with_columns(surface), known)])]
        for name in names:
            of_each = of_log.select(surface, each=name).group_by("surface", "each").agg(rows=pl.len().cast(pl.Float64))
            sizes[name] = [_added([*sizes[name], of_each])]
    for name, of_each in zip((USERS, ITEMS), (pl.concat(sizes[each]) for each in names), strict=True):
        in_effect = (pl.col("rows").sum() ** 2 / (pl.col("rows") ** 2).sum()).ceil()
        effective = of_each.group_by("surface").agg(rows=in_effect)
        counts.append(_typed(effective.select("surface", column=pl.lit(name), bin=pl.lit(""), rows="rows")))
    return pl.concat(counts).sort("surface", "column", "bin")


def _inputs(work: Workspace, slice_: Slice) -> Iterator[pl.DataFrame]:
    """Logged inputs, part by part, with teacher features where there are any."""
    logged = work.table("logged_inputs")
    if not _has_teacher_features(work, slice_):
        yield from logged.parts(slice_)
        return
    ids = (part.select(ID) for part in logged.parts(slice_, [ID]))
    features = work.project.teacher_feature_columns.features
    second = beside(work.table("logged_teacher_features"), slice_, ids, features)
    for part, more in zip(logged.parts(slice_), second, strict=True):
        yield part.hstack(more.select(features))


def _counts(
    work: Workspace, frame: pl.DataFrame, of_log: pl.DataFrame, known: Mapping[str, pl.Series]
) -> Iterator[pl.DataFrame]:
    """Rows of a part by surface, column and bin.

    Args:
        of_log: its users, items, and ``surface``.
        known: users and items that were met before.
    """
    stream, surface = work.project.stream, of_log["surface"]
    ids = {*(column.name for column in stream.id_columns), *work.project.logged_columns.ids}
    bins = {name: _bins(stream, ids, frame[name]) for name in frame.columns if name not in (ID, "event_timestamp")}
    for name, met in known.items():
        bins[f"new {name}"] = pl.Series(np.where(of_log[name].is_in(met.implode()).fill_null(False), "known", "new"))
    for name, bin_ in bins.items():
        binned = pl.DataFrame({"surface": surface, "column": name, "bin": bin_})
        yield _typed(binned.group_by("surface", "column", "bin").agg(rows=pl.len()))
    rows = of_log.group_by("surface").agg(rows=pl.len())
    yield _typed(rows.select("surface", column=pl.lit(ROWS), bin=pl.lit(""), rows="rows"))


def _typed(counts: pl.DataFrame) -> pl.DataFrame:
    """Of an empty slice polars takes some columns for null."""
    return counts.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _added(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Counts of several parts, together."""
    keys = [name for name in counts[0].columns if name != "rows"]
    return pl.concat(counts).group_by(keys).agg(pl.col("rows").sum())


def _bins(stream: Stream, ids: Set[str], values: pl.Series) -> pl.Series:
    """The bin of each row, as text; ``ids`` are the names of categorical columns."""
    if isinstance(values.dtype, pl.List) and values.dtype.inner == pl.Float32():  # a vector: its length in space
        norms = values.list.eval(pl.element().cast(pl.Float64).pow(2)).list.sum().sqrt()
        return _number_bins(pl.select(pl.when(values.is_not_null()).then(norms)).to_series())
    if isinstance(values.dtype, pl.List):
        return _number_bins(values.list.len().cast(pl.Float64))
    if values.name in (stream.user.name, stream.item.name):
        return values.is_null().replace_strict({True: "null", False: "known"}, return_dtype=pl.String).alias("bin")
    if values.name in ids:
        words = values.cast(pl.String)
        of_word = {word: str(zlib.crc32(word.encode()) % CATEGORY_BINS) for word in words.unique().drop_nulls()}
        if not of_word:
            return pl.Series("bin", ["null"] * len(words), dtype=pl.String)
        return words.replace_strict(of_word, default="null", return_dtype=pl.String).alias("bin")
    return _number_bins(values.cast(pl.Float64))


def _number_bins(values: pl.Series) -> pl.Series:
    """Sign and size in half octaves; 0, null and NaN have bins of their own."""
    numbers = values.fill_null(float("nan")).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.clip(np.floor(2 * np.log2(np.abs(numbers))), -HALF_OCTAVES, HALF_OCTAVES) + HALF_OCTAVES + 1
        bins = np.nan_to_num(np.sign(numbers) * size)
    named = pl.Series("bin", bins.astype(np.int64)).cast(pl.String)
    missing = values.is_null()
    return (
        pl.DataFrame({"bin": named, "null": missing, "nan": pl.Series(np.isnan(numbers)) & ~missing})
        .select(pl.when("null").then(pl.lit("null")).when("nan").then(pl.lit("nan")).otherwise("bin").alias("bin"))
        .to_series()
    )


def of_surface(profile: pl.DataFrame, surface: object | None) -> dict[str, dict[str, int]]:
    """Column -> bin -> rows, of one surface or of all."""
    rows = profile if surface is None else profile.filter(pl.col("surface") == str(surface))
    counts = rows.group_by("column", "bin").agg(pl.col("rows").sum())
    found: dict[str, dict[str, int]] = {}
    for column, name, count in counts.sort("column", "bin").iter_rows():
        found.setdefault(column, {})[name] = count
    return found


def added(several: Iterable[dict[str, int]]) -> dict[str, int]:
    """The counts of several slices together."""
    total: dict[str, int] = {}
    for counts in several:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def psi(now: dict[str, int], before: dict[str, int], users: tuple[int, int]) -> float:
    """PSI of two binned samples, less what it is of two samples of one distribution, 0 at the least.

    Args:
        users: in effect, in each sample: how many independent values it has at the most.
    """
    return psi_and_chance(now, before, users)[0]


def psi_and_chance(now: dict[str, int], before: dict[str, int], users: tuple[int, int]) -> tuple[float, float]:
    """The same, and what it exceeds in one of ten thousand such pairs of one distribution.

    PSI over (1/n + 1/m) is about chi-squared with bins - 1 degrees of freedom (Yurdakul and Naranjo 2020), whose
    quantile is that of Wilson and Hilferty (1931). Of few independent values it varies so much that a large one means
    nothing.
    """
    names = sorted(now.keys() | before.keys())
    counts = [np.array([sample.get(name, 0) for name in names], dtype=np.float64) for sample in (now, before)]
    if len(names) < 2 or not all(each.sum() for each in counts):
        return 0.0, 0.0
    p, q = ((each + 0.5) / (each.sum() + 0.5 * len(names)) for each in counts)
    sizes = [max(min(each.sum(), count), 1.0) for each, count in zip(counts, users, strict=True)]
    scale, free = float(sum(1 / size for size in sizes)), len(names) - 1
    rare = free * (1 - 2 / (9 * free) + ONE_IN_TEN_THOUSAND * np.sqrt(2 / (9 * free))) ** 3
    found = float(((p - q) * np.log(p / q)).sum())
    return max(found - free * scale, 0.0), float(rare - free) * scale
