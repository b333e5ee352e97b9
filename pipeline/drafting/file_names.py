"""What tells files apart in their names: ``bts_men.csv``, ``bts_women.csv`` -> ``men``, ``women``.

Belongs here: words in names, and whether ids are local to one of them. Not here: columns (roles.py).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile
from pipeline.drafting.roles import is_row_number
from pipeline.drafting.words import SPLITS
from pipeline.imports.reading import literal

MOST = 20  # words that can stand in one place


@dataclass(frozen=True)
class Apart:
    """Words in one place of files' names.

    Args:
        sql: an expression of the word over ``filename``.
    """

    values: tuple[str, ...]
    sql: str


def words_apart(names: list[str], others: Iterable[str] = ()) -> list[Apart]:
    """Words that differ between names, place by place; first those that stand in other names, too.

    Args:
        others: names of side tables, in which the same words may stand.
    """
    cut = [re.findall(r"[A-Za-z0-9]+", _bare(name)) for name in names]
    if len(names) < 2 or len({len(tokens) for tokens in cut}) > 1:
        return []
    beside = list(others)
    found: list[tuple[int, int, Apart]] = []
    for tokens in zip(*cut, strict=True):
        values = tuple(dict.fromkeys(tokens))
        if not 1 < len(values) <= MOST or any(not value[0].isalpha() or len(value) > 24 for value in values):
            continue
        if {value.lower() for value in values} <= SPLITS or any(
            re.fullmatch(r"[0-9a-f]*\d[0-9a-f]*", value) for value in values
        ):
            continue
        matched = [name for name in beside if len(_places(name, values)) == 1]
        pattern = _pattern([*names, *matched], values)
        if all(_means(pattern, name, values) for name in [*names, *matched]):
            apart = Apart(tuple(sorted(values)), f"regexp_extract(filename, {literal(pattern)}, 1)")
            found.append((len(matched), len(found), apart))
    return [apart for _, _, apart in sorted(found, key=lambda each: each[:2], reverse=True)]


def _bare(name: str) -> str:
    parts = [part for part in name.split("/") if "=" not in part]
    return "/".join([*parts[:-1], parts[-1].partition(".")[0]]) if parts else ""


def _places(name: str, values: Iterable[str]) -> list[re.Match[str]]:
    either = "|".join(map(re.escape, values))
    return list(re.finditer(rf"(?<![A-Za-z0-9])({either})(?![A-Za-z0-9])", name))


def _pattern(names: list[str], values: tuple[str, ...]) -> str:
    """An expression whose first group is the word."""
    places = [(name, match) for name in names for match in _places(name, values)]
    before = {name[match.start() - 1 : match.start()] for name, match in places}
    after = {name[match.end() : match.end() + 1] for name, match in places}
    return f"{_either(before, '^')}({'|'.join(sorted(values))}){_either(after, '$')}"


def _either(characters: set[str], end: str) -> str:
    if characters == {""}:
        return end
    if len(characters) == 1:
        return re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\1", characters.pop())
    return f"(?:{end}|[^A-Za-z0-9])"


def _means(pattern: str, name: str, values: tuple[str, ...]) -> bool:
    """Does an expression find the word that stands in a name of the files?"""
    match = re.search(pattern, name)
    return match is not None and match[1] in values


def local_ids(connection: duckdb.DuckDBPyConnection, side: Looked, key: Profile, apart: Apart) -> tuple[int, int]:
    """Of the ids that stand in files of several words, how many say something else in each; and how many there are."""
    said = [each.value for each in side.profiles.values() if each.name != key.name and not is_row_number(each)] or [
        "''"
    ]
    told = f"md5(concat_ws('|', {', '.join(f'({value})::VARCHAR' for value in said)}))"
    rows = f"SELECT {key.value} AS id, {apart.sql} AS word, {told} AS said FROM {side.sample.table}"
    other, shared = connection.sql(
        "SELECT count(*) FILTER (differ > 1), count(*) FROM "
        f"(SELECT id, count(DISTINCT said) AS differ FROM ({rows}) WHERE word <> '' GROUP BY id "
        "HAVING count(DISTINCT word) > 1)"
    ).fetchall()[0]
    return int(other), int(shared)


def has_words(side: Looked, apart: Apart) -> bool:
    """Do all names of a side table's files have one of the words?"""
    pattern = apart.sql.removeprefix("regexp_extract(filename, '").removesuffix("', 1)")
    return all(_means(pattern, source.name, apart.values) for source in side.shape.sources)
