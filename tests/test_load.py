"""Which project runs: an entry point, a module or a file of the user's own; a sentence where there is none."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exfm.errors import DeclarationError
from exfm.load import PATH, for_children, load_project, project_name
from exfm_assets.command import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
OWN = "from dataclasses import replace\nfrom projects.simulated import PROJECT as OTHER\n"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("exfm_project_"):
            del sys.modules[name]


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_projects_that_come_along_are_entry_points() -> None:
    assert load_project("simulated").name == "simulated"
    assert load_project("news").name == "news"


def test_a_file_is_a_project_with_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "words_beside.py", 'NAME = "beside"\n')
    file = written(tmp_path / "my ads.py", OWN + "from words_beside import NAME\nPROJECT = replace(OTHER, name=NAME)\n")
    assert load_project(str(file)).name == "beside"
    assert load_project(f"{file}:OTHER").name == "simulated"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXFM_PROJECT", "my ads.py")
    assert load_project().name == "beside"
    assert project_name() == f"{file}:PROJECT"  # a child that works in another folder finds it too


def test_a_module_is_looked_for_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "company_ads.py", OWN + "PROJECT = replace(OTHER, name='company')\n")
    written(tmp_path / "models" / "__init__.py", "raise RuntimeError('this folder hides nothing of exfm')\n")
    monkeypatch.setenv(PATH, str(tmp_path))
    assert load_project("company_ads:PROJECT").name == "company"
    assert importlib.import_module("models.learner").Learner


@pytest.mark.parametrize(("text", "sentence"), [
    ("PROJECT = 5\n", "is a int, not a Project: name one"),
    ("PROJEKT = 5\n", "defines no PROJECT: write PROJECT = Project(...) in it"),
    (OWN, "own.py' defines no PROJECT: it has OTHER: name it as "),
    ("import no_such_name\n", "ModuleNotFoundError: No module named 'no_such_name': see own.py line 1"),
    ("x = 1\nPROJECT = unknown\n", "NameError: name 'unknown' is not defined: see own.py line 2"),
    ("x = 1\ndef broken(:\n", "SyntaxError: invalid syntax: see own.py line 2"),
    ("import sys\nsys.exit(3)\n", "SystemExit: 3: see own.py line 2"),
    ("from exfm import Column\nColumn(name='Ü', rows=2)\n", "Column.name: 'Ü' can't name a view"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = written(tmp_path / "own.py", text)
    with pytest.raises(DeclarationError) as refused:
        load_project(str(file))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_project_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"none.py' can't be loaded: there is no file .*none.py: name one"):
        load_project(str(tmp_path / "none.py"))
    with pytest.raises(DeclarationError, match=r"'nws' is not a project: use one of \['avazu', 'kuai_video', .*'news'"):
        load_project("nws")


def test_a_file_that_was_nearly_named_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "mine.py", OWN)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine.txt"):
        with pytest.raises(DeclarationError, match=r"did you mean 'mine.py'\?"):
            load_project(name)
    monkeypatch.setenv("EXFM_PROJECT", "~nobody_of_that_name/x.py")
    with pytest.raises(DeclarationError, match="write the whole path"):
        load_project()


def test_children_are_told_in_words_that_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("EXFM_PROJECT", "a.py"), ("EXFM_STATE", "s"), ("EXFM_DATA", "log")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(PATH, raising=False)
    assert for_children() == {
        "EXFM_PROJECT": f"{tmp_path}/a.py:PROJECT", "EXFM_STATE": f"{tmp_path}/s", "EXFM_DATA": f"{tmp_path}/log",
        PATH: str(tmp_path),
    }  # fmt: skip


def test_the_command_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"exfm {name}" in output for name in COMMANDS)
    assert main(["rum"]) == 2
    assert "'rum' is no command: use one of run, draft" in capsys.readouterr().err
    assert main(["home"]) == 0 and main(["version"]) == 0


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "exfm"), "version"], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
