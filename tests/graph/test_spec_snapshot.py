"""What the tiny project is to Dagster, entry by entry, against ``spec_snapshot.json``: a refactor changes none of it.

Whoever changes an entry on purpose writes the file anew and says why in the commit:

    python -m tests.graph.test_spec_snapshot --write
"""

import argparse
import difflib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exfm.project import Project
from exfm_assets.definitions import build_defs
from tests.tiny import tiny_project, tiny_workspace

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("spec_snapshot.json")
WRITE = "python -m tests.graph.test_spec_snapshot --write"
DEFAULT_MAPPING = "Dagster's default"
Section = dict[str, object]


def snapshot(folder: Path, project: Project | None = None) -> dict[str, Section]:
    """Section -> entry -> what it is; plain values, the same wherever ``folder`` lies and whatever day it is."""
    defs = build_defs(tiny_workspace(folder, project))
    graph, repository = defs.resolve_asset_graph(), defs.get_repository_def()
    specs = sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key.to_user_string())
    names = condition_names(specs)
    jobs = [job.name for job in repository.get_all_jobs() if not job.name.startswith("__")]  # those are Dagster's own
    return {
        "assets": {spec.key.to_user_string(): asset_entry(spec, graph.get(spec.key), names) for spec in specs},
        "checks": {
            f"{key.asset_key.to_user_string()}:{key.name}": "blocking" if graph.get(key).blocking else "warns"
            for key in graph.asset_check_keys
        },
        "conditions": {
            names[drawn(spec.automation_condition)]: list(outline(spec.automation_condition))
            for spec in specs
            if spec.automation_condition is not None
        },
        "sensors": dict.fromkeys((sensor.name for sensor in repository.sensor_defs), "sensor"),
        "schedules": dict.fromkeys((schedule.name for schedule in repository.schedule_defs), "schedule"),
        "jobs": dict.fromkeys(jobs, "job"),
    }


def asset_entry(spec: dg.AssetSpec, node: Any, names: dict[str, str]) -> dict[str, object]:
    """One asset; ``node`` is its node of Dagster's asset graph, ``names`` those of ``condition_names``."""
    condition = spec.automation_condition
    return {
        "group": spec.group_name,
        "step": node.assets_def.node_def.name,  # assets that name the same one are made together
        "kinds": ", ".join(sorted(spec.kinds)),
        "pools": ", ".join(sorted(node.pools or ())),
        "deps": {dep.asset_key.to_user_string(): mapping_text(dep.partition_mapping) for dep in spec.deps},
        "partitions": described(spec.partitions_def),
        "automation_condition": None if condition is None else names[drawn(condition)],
        "backfill_policy": None if node.backfill_policy is None else str(node.backfill_policy),
        "code_version": spec.code_version,
        "freshness_policy": described(spec.freshness_policy),
    }


def mapping_text(mapping: dg.PartitionMapping | None) -> str:
    return DEFAULT_MAPPING if mapping is None else str(described(mapping))


def stored(value: object) -> str:
    """As Dagster stores it: JSON that names classes and fields, never an object's address."""
    return dg.serialize_value(value)  # type: ignore[arg-type]


def described(value: object) -> str | None:
    return None if value is None else text(json.loads(stored(value)))


def text(value: Any) -> str:
    """A stored value as one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    if not isinstance(value, dict):
        return str(value)
    if "__enum__" in value:
        return str(value["__enum__"])
    fields = {name: each for name, each in value.items() if name != "__class__" and each is not None}
    match value.get("__class__"):
        case "AssetKey":
            return "/".join(fields["path"])
        case "SerializableTimeDelta":
            return str(timedelta(**fields))
        case "TimestampWithTimezone":
            return f"{datetime.fromtimestamp(fields['timestamp'], UTC):%Y-%m-%dT%H:%M:%SZ}"
        case name:
            return f"{name or ''}({', '.join(f'{field}={text(fields[field])}' for field in sorted(fields))})"


def outline(condition: dg.AutomationCondition, depth: int = 0) -> Iterator[str]:
    """A condition as an indented list: one a line, below it those that it is made of."""
    selections = {name: getattr(condition, f"{name}_selection", None) for name in ("allow", "ignore")}
    chosen = [f"{name}={described(selection)}" for name, selection in selections.items() if selection is not None]
    label = condition.get_label()
    words = [condition.name, *([f"[{label}]"] if label else []), *chosen]
    yield "  " * depth + " ".join(dict.fromkeys([*words, f"({condition.description})"]))
    for part in condition.children:
        yield from outline(part, depth + 1)


def drawn(condition: dg.AutomationCondition) -> str:
    return "\n".join(outline(condition))


def condition_names(specs: list[dg.AssetSpec]) -> dict[str, str]:
    """Stored condition -> its label; where conditions share a label, with the first asset that each is of."""
    first: dict[str, tuple[str, str]] = {}
    for spec in specs:
        condition = spec.automation_condition
        if condition is not None:
            label = condition.get_label() or "unlabelled"
            first.setdefault(drawn(condition), (label, spec.key.to_user_string()))
    labels = [label for label, _ in first.values()]
    return {
        form: label if labels.count(label) == 1 else f"{label} of {asset}" for form, (label, asset) in first.items()
    }


def as_text(sections: dict[str, Section]) -> str:
    return json.dumps(sections, indent=2, sort_keys=True) + "\n"


def differences(before: dict[str, Section], now: dict[str, Section]) -> list[str]:
    """Each entry that is new, gone or changed, and how."""
    lines: list[str] = []
    for section in sorted(before.keys() | now.keys()):
        old, new = before.get(section, {}), now.get(section, {})
        lines += [f"{section}: {name} is gone" for name in sorted(old.keys() - new.keys())]
        lines += [f"{section}: {name} is new" for name in sorted(new.keys() - old.keys())]
        for name in sorted(old.keys() & new.keys()):
            if old[name] != new[name]:
                users = f", of {', '.join(assets_with(name, now))}" if section == "conditions" else ""
                lines += [f"{section}: {name} has changed{users}", *changes(old[name], new[name])]
    return lines


def assets_with(condition: str, sections: dict[str, Section]) -> list[str]:
    entries: dict[str, Any] = sections.get("assets", {})
    return sorted(name for name, entry in entries.items() if entry["automation_condition"] == condition)


def changes(old: object, new: object) -> list[str]:
    """The lines of an entry that went (-) and came (+)."""
    before, now = (json.dumps(entry, indent=2, sort_keys=True).splitlines() for entry in (old, new))
    changed = list(difflib.unified_diff(before, now, lineterm="", n=0))[2:]  # without the names of files
    return [f"    {line}" for line in changed if not line.startswith("@@")]


def test_the_tiny_project_is_to_dagster_what_it_was(tmp_path: Path) -> None:
    before = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    changed = differences(before, json.loads(as_text(snapshot(tmp_path))))
    if changed:
        pytest.fail("\n".join([*changed, f"If that was meant, say why in the commit, and: {WRITE}"]), pytrace=False)


def test_a_snapshot_says_nothing_of_where_or_when_it_was_made(tmp_path: Path) -> None:
    first, second = (as_text(snapshot(tmp_path / name)) for name in ("first", "second"))
    assert first == second
    for trace in (str(tmp_path), str(ROOT), " at 0x"):
        assert trace not in first


def test_what_differs_is_named(tmp_path: Path) -> None:
    project = tiny_project()
    whole, fewer = (
        snapshot(tmp_path / "whole"),
        snapshot(tmp_path / "fewer", tiny_project(students=project.students[:1])),
    )
    lines = differences(whole, fewer)
    assert "assets: student/feed_convert/control is gone" in lines
    assert "checks: student/feed_convert/control:finite is gone" in lines
    assert "assets: student_progress has changed" in lines
    assert f'    -    "student/feed_convert/control": "{DEFAULT_MAPPING}",' in lines
    assert "assets: student/feed_convert/control is new" in differences(fewer, whole)
    assert not differences(whole, whole)
    eager = {**whole, "conditions": {**whole["conditions"], "on_change": ["Eager"]}}
    assert "conditions: on_change has changed, of feature_registry" in differences(whole, eager)


def main() -> None:
    parser = argparse.ArgumentParser(description="The snapshot of the tiny project's definitions.")
    parser.add_argument("--write", action="store_true", required=True, help=f"write {SNAPSHOT.name} anew")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        SNAPSHOT.write_text(as_text(snapshot(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
