"""Registered models in MLflow: a version a release, tags that say what became of it, aliases for what serves.

Belongs here: one model, its versions and aliases. Not here: what they should be (registered.py).

A model or an alias of somebody else's is left alone and said: who deploys by the alias ``serving`` would deploy
another model. An alias that somebody set to another of our own versions is set back: the project's history says what
serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pipeline.mirror.connecting import called, is_server, registry_of
from pipeline.mirror.handle import KEY, Handle, first_of_each, lacking, pages
from pipeline.mirror.run_sync import RELEASE
from pipeline.mirror.wanted import WantedModel, WantedVersion

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


@dataclass
class ModelSync:
    """Brings models up, one after the other.

    Args:
        runs: key -> id of the runs that are there.
        copied: whether their files are uploaded to them.
        faults: what was left alone, a sentence each.
    """

    handle: Handle
    runs: Mapping[str, str]
    copied: bool
    faults: list[str] = field(default_factory=list)

    def bring_up(self, wanted: WantedModel) -> None:
        """Make what is not there, and change what is otherwise."""
        model = self._model(wanted.name) or self._made(wanted)
        if not self.handle.is_ours(model.tags):
            self.faults.append(
                f"model {wanted.name!r} is not of this project and state, so it was left alone: declare "
                "MLflow(models=...) otherwise, or if it may go on as this one, give it this one's tags: "
                + ", ".join(f"{name}={value}" for name, value in self.handle.whose.items())
            )
            return
        client = self.handle.client
        if model.description != wanted.about:
            self.handle.write(client.update_registered_model, wanted.name, wanted.about)
        for name, value in lacking(wanted.tags, model.tags):
            self.handle.write(client.set_registered_model_tag, wanted.name, name, value)
        there = self._versions(wanted.name)
        numbers = {version.number: self._version(wanted.name, version, there) for version in wanted.versions}
        ours = {str(version.version) for version in there.values()} | set(numbers.values())
        for alias, number in wanted.aliases.items():
            self._alias(model, alias, None if number is None else numbers[number], ours)

    def _model(self, name: str) -> "RegisteredModel | None":
        from mlflow.exceptions import MlflowException

        try:
            return self.handle.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # MLflow has no other way to ask

    def _made(self, wanted: WantedModel) -> "RegisteredModel":
        make = self.handle.client.create_registered_model
        return self.handle.write(make, wanted.name, tags=dict(self.handle.whose), description=wanted.about)

    def _versions(self, model: str) -> "dict[str, ModelVersion]":
        search = partial(self.handle.client.search_model_versions, f"name='{model}'")
        ours = (version for version in pages(search) if self.handle.is_ours(version.tags))
        return first_of_each(ours, lambda version: (version.tags.get(KEY), int(version.version)))

    def _version(self, model: str, wanted: WantedVersion, there: "Mapping[str, ModelVersion]") -> str:
        client, found = self.handle.client, there.get(wanted.key)
        if found is None:
            made = self.handle.write(
                client.create_model_version,
                model,
                self._source(wanted),
                run_id=self.runs[wanted.run],
                tags={**self.handle.tags_of(wanted.key), **wanted.tags},
                description=wanted.about,
            )
            return str(made.version)
        if found.description != wanted.about:
            self.handle.write(client.update_model_version, model, str(found.version), wanted.about)
        for name, value in lacking(wanted.tags, found.tags):
            self.handle.write(client.set_model_version_tag, model, str(found.version), name, value)
        return str(found.version)

    def _source(self, wanted: WantedVersion) -> str:
        """Where the files are. A server takes no path of this machine, so it gets the release's name."""
        if self.copied and wanted.folder.is_dir():
            return f"runs:/{self.runs[wanted.run]}/{RELEASE}"
        if is_server(registry_of(self.handle.uri)):
            return wanted.reference
        return wanted.folder.resolve().as_uri()

    def _alias(self, model: "RegisteredModel", alias: str, version: str | None, ours: set[str]) -> None:
        now = model.aliases.get(alias)
        if now is not None and str(now) not in ours:
            self.faults.append(
                f"alias {alias!r} of model {model.name!r} names version {now}, which exfm did not make, so it was left "
                "alone: delete the alias in MLflow"
            )
        elif version is None and now is not None:
            self.handle.write(self.handle.client.delete_registered_model_alias, model.name, alias)
        elif version is not None and str(now) != version:
            self.handle.write(self.handle.client.set_registered_model_alias, model.name, alias, version)


def faults_in_words(uri: str, faults: list[str]) -> str:
    return f"MLflow at {called(uri)}: {'; '.join(faults)}. Everything else is up to date there"
