"""The wheels work from any folder: a user's own declaration beside them, state made where the user is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN = """
from dataclasses import replace
from datetime import timedelta

from exfm import AuxiliaryHead, Gate, Simulation
from projects.simulated import PROJECT as SIMULATED
from words import NAME

PROJECT = replace(
    SIMULATED, name=NAME, students=(replace(SIMULATED.student("feed_click"), gate=Gate(judged_rows=100, rows=100)),),
    stream=replace(SIMULATED.stream, until=SIMULATED.stream.first_slice + timedelta(days=3)),
    simulation=Simulation(impressions_per_day=1_000, users=200, items=60),
)
"""


def built(folder: Path, *packages: str) -> Path:
    """A folder of installed packages, built as wheels from what git tracks."""
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    paths = [str(source / package) for package in packages]
    wheels, site = folder / "wheels", folder / "site"
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), *paths]
    subprocess.run(wheel, check=True, capture_output=True, text=True)
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(site), *map(str, wheels.glob("*.whl"))]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return site


def ran(site: Path, cwd: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER"))}
    command = [sys.executable, "-P", *arguments]
    environment = {**kept, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=250)


@pytest.mark.slow
def test_the_wheel_runs_a_declaration_that_lies_in_a_users_folder(tmp_path: Path) -> None:
    site, mine = built(tmp_path, "."), tmp_path / "my ads"
    mine.mkdir()
    (mine / "ads.py").write_text(OWN)
    (mine / "words.py").write_text('NAME = "mine"\n')
    (mine / "models").mkdir()  # a name of ours that users have too: it hides nothing
    where = ran(site, mine, "-c", "import exfm, models.learner; print(exfm.__file__, models.learner.__file__)")
    assert where.stdout.count(str(site)) == 2, where
    done = ran(site, mine, "-m", "exfm_assets.command", "run", EXFM_PROJECT="ads.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "feed_click" in done.stdout
    assert (mine / "exfm_data" / "mine" / "reports" / "report.html").is_file()
    assert (mine / "exfm_data" / "dagster_home" / "dagster.yaml").is_file()
    assert not (site / "data").exists() and not (site.parent / "data").exists()
    again = ran(site, mine, "-m", "exfm_assets.command", "predictions", EXFM_PROJECT="ads:PROJECT")
    assert again.returncode == 0 and "click_probability" in again.stdout, again
    feast = ran(site, mine, "-m", "exfm_assets.command", "feast", "feature-views", "list", EXFM_PROJECT="ads.py")
    assert "teacher_large" in feast.stdout, feast


@pytest.mark.slow
def test_the_offline_store_is_a_package_of_its_own(tmp_path: Path) -> None:
    site = built(tmp_path, "feast_asof")
    assert [path.name for path in site.iterdir() if not path.name.endswith("dist-info")] == ["feast_asof"]
    looked = (
        "import sys, pkgutil, importlib, feast_asof\n"
        "for found in pkgutil.iter_modules(feast_asof.__path__):\n"
        "    if found.name != 'feast_tests': importlib.import_module('feast_asof.' + found.name)\n"
        "print(feast_asof.__file__, [name for name in ('exfm', 'dagster', 'pipeline') if name in sys.modules])"
    )
    done = ran(site, tmp_path, "-c", looked)
    assert done.stdout.split(maxsplit=1) == [str(site / "feast_asof" / "__init__.py"), "[]\n"], done
