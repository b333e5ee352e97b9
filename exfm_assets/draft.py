"""``exfm draft``: a first declaration for a log that somebody else wrote.

    exfm draft FILE_OR_FOLDER [...] [--to FILE.py] [--name NAME]
               [--impressions FILE_OR_FOLDER]
               [--time COLUMN] [--user COLUMN] [--item COLUMN] [--label COLUMN] [--surface COLUMN] [--zone ZONE]

Belongs here: the command and what it prints. Not here: looking and guessing (pipeline/drafting/).
"""

import argparse
import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from exfm.atomic_write import atomic_write
from exfm.errors import DeclarationError, identifier
from exfm.load import load_project
from pipeline.drafting.given import Given
from pipeline.tables import DataError


def main(arguments: list[str] | None = None) -> int:
    """Look, write, and say what was guessed; the exit status is 2 where no draft can be made."""
    parser = argparse.ArgumentParser(prog="exfm draft", description="Draft a declaration for a log of any files.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="the log, and tables beside it")
    parser.add_argument("--to", type=Path, help="where to write it; default: NAME.py in this folder")
    parser.add_argument("--name", help="of the project; default: as the log's folder is called")
    parser.add_argument(
        "--impressions", type=Path, metavar="FILE_OR_FOLDER", help="which of the files are the impressions"
    )
    for role, what in (
        ("time", "says when a row happened"), ("user", "says who saw it"), ("item", "says what was shown"),
        ("label", "says what came of it"), ("surface", "says where it was shown"),
    ):  # fmt: skip
        parser.add_argument(f"--{role}", metavar="COLUMN", help=f"of the impressions, as their files call it: {what}")
    parser.add_argument(
        "--zone", help="of times that name none, and by whose clock days begin, as Europe/Berlin; default: UTC"
    )
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        if chosen.name is not None:
            identifier("--name", chosen.name)
        given = Given(
            chosen.time, chosen.user, chosen.item, chosen.label, chosen.surface, chosen.impressions, chosen.zone
        )
        written = _write(console, chosen.paths, chosen.to, chosen.name, given)
        _check(written)
    except (DataError, DeclarationError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    except OSError as error:
        console.print(f"[red]{escape(f'{error.filename or chosen.to} : {error.strerror or error}')}[/red]")
        return 2
    return 0


def _write(console: Console, paths: list[Path], to: Path | None, name: str | None, roles: Given) -> Path:
    """Write the draft: where it is.

    Raises:
        DataError: if there can't be one, or a file lies there.
    """
    from pipeline.drafting.assembling import draft_of  # DuckDB and Jinja2: .4 s that --help needs nothing of
    from pipeline.drafting.writing import text_of_draft

    if to is not None:
        _check_free(to)
    draft = draft_of(paths, name, roles)
    target = (to or Path(f"{draft.name}.py")).expanduser().resolve()
    _check_free(target)
    with atomic_write(target) as file:
        file.write(text_of_draft(draft).encode())
    console.print(f"{escape(draft.seen)}.")
    for guess in draft.guesses:
        console.print(f"  [bold]{guess.what}[/bold]: {escape(guess.guess)} [dim]({escape(guess.why)})[/dim]")
    if draft.left_out:
        console.print("  [bold]left out[/bold]:")
        for column, why in draft.left_out.items():
            console.print(f"    {escape(column)} [dim]({escape(why)})[/dim]")
    environment = f"EXFM_DATA={shlex.quote(str(draft.folder))} EXFM_PROJECT={shlex.quote(str(target))}"
    console.print(f"{escape(str(target))} is written: look through its comments, then")
    console.print(escape(f"  {environment} exfm run --plan"))
    console.print(escape(f"  {environment} exfm run"))
    return target


def _check(written: Path) -> None:
    """Load a draft.

    Raises:
        DeclarationError: if it can't be, with what to mend in it.
    """
    try:
        load_project(str(written))
    except DeclarationError as error:
        raise DeclarationError(f"{written} is written, but a part does not fit yet, mend it there: {error}") from error


def _check_free(target: Path) -> None:
    if target.exists():
        raise DataError(f"{target} is there already: name another file by --to, or remove it")
