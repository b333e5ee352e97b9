"""``exfm bars NAME``: train a network on a public set with a fixed split, and compare with what was published.

    exfm bars taobao_ad_x1 --data /path/to/TaobaoAd_x1 [--model DeepFM] [--seed 1]

Belongs here: the command and its words. Not here: reading and training (pipeline/bars/), the sets (projects/).
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import fixed_splits, load_fixed_split
from exfm.state import state_root
from exfm.writing import StateError, refusal, unwritable
from pipeline.tables import DataError

PLAIN_SECONDS = 30.0  # between lines where there is no terminal to show a moving one


def main(arguments: list[str] | None = None) -> int:
    """Train, print the table, and give the exit status."""
    parser = argparse.ArgumentParser(
        prog="exfm bars", description="Train on a public set, compare with what is published."
    )
    parser.add_argument("name", help=f"one of {', '.join(fixed_splits())}, or module:NAME, or path/to/file.py:NAME")
    parser.add_argument("--data", help="the folder of the set's files; default: EXFM_DATA")
    parser.add_argument("--model", help="DCNv2, DeepFM, DLRM or Wukong; default: the declared one")
    parser.add_argument("--seed", type=int, help="of initialisation and order; default: the declared one")
    parser.add_argument("--epochs", type=int, help="at the most; default: the declared number")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log or a pipe has no width of its own
    try:
        return _train(chosen, console)
    except (DeclarationError, DataError, StateError) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        return 2


def _train(chosen: argparse.Namespace, console: Console) -> int:
    split = load_fixed_split(chosen.name)
    if chosen.epochs is not None:
        split = replace(split, epochs=chosen.epochs)
    data = _folder(chosen.data, split.train.paths[0])
    from models.errors import LearningError
    from pipeline.bars.table import result_table
    from pipeline.bars.training import train  # torch: 1-2 s that a wrong name need not wait for

    work, said = state_root() / "bars", time.monotonic()
    with console.status("starting") as status:

        def tell(words: str) -> None:
            nonlocal said
            status.update(escape(words))
            is_plain = not console.is_terminal and time.monotonic() - said > PLAIN_SECONDS
            if words.endswith("on validation rows") or is_plain:
                said = time.monotonic()
                console.print(escape(words))

        try:
            trained = train(split, data, work, chosen.model, chosen.seed, tell)
        except LearningError as error:
            raise DataError(str(error)) from error
        except OSError as error:
            raise StateError(unwritable(work, refusal(error) or error)) from error
    console.print(result_table(split, trained))
    return 0


def _folder(given: str | None, first: str) -> Path:
    """The folder of the files.

    Raises:
        DeclarationError: if none is named, or what is named is none.
    """
    named = given or os.environ.get("EXFM_DATA", "").strip()
    if not named:
        raise DeclarationError(f"--data: not given, and EXFM_DATA is not set: name the folder that holds {first}")
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise DeclarationError(f"--data: {named!r} is not a folder: name the one that holds {first}")
    return folder
