"""MLflow: where releases and their figures are mirrored, for teams that look there.

Belongs here: which server, experiment and models. Not here: what is mirrored (pipeline/mirror/), when (exfm_assets/).
"""

from string import Formatter
from urllib.parse import urlsplit

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, shown


@declaration
class MLflow(Declaration):
    """A mirror of runs, figures and releases in MLflow: ``pip install "exfm[mlflow]"``.

    What a project keeps on disk is the truth, and nothing is read back from MLflow. Nothing that is stored depends on
    this declaration. Credentials stand in MLflow's own environment variables, never here.

    Args:
        tracking_uri: of a server (``https://...``) or a store (``sqlite:////whole/path``); ``None``: that of
            ``MLFLOW_TRACKING_URI``.
        experiment: name of the experiment; ``None``: the project's.
        models: name of a student's registered model, made of ``{project}`` and ``{student}``.
        copy_weights: whether the files of each release are uploaded to its run; else MLflow only says where they lie.
    """

    tracking_uri: str | None = None
    experiment: str | None = None
    models: str = "{project}.{student}"
    copy_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experiment is not None and not self.experiment.strip():
            raise DeclarationError(
                f"MLflow.experiment: {shown(self.experiment)} names no experiment: write a name, or drop it"
            )
        if self.tracking_uri is not None:
            self._check_uri(self.tracking_uri)
        self._check_models()

    @staticmethod
    def _check_uri(uri: str) -> None:
        try:
            split = urlsplit(uri)
        except ValueError as error:
            raise DeclarationError(
                f"MLflow.tracking_uri: {shown(uri)} is no address ({error}): write https://..."
            ) from error
        if split.password is not None or (split.scheme in ("http", "https") and split.username is not None):
            raise DeclarationError(
                "MLflow.tracking_uri: a password or token stands in it: use MLFLOW_TRACKING_URI, or of a server "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if not split.scheme:
            raise DeclarationError(
                f"MLflow.tracking_uri: {shown(uri)} is no address: write https://..., or sqlite:////whole/path/mlflow.db"
            )
        if split.scheme == "sqlite" and not uri.startswith("sqlite:////"):
            raise DeclarationError(
                f"MLflow.tracking_uri: {shown(uri)} depends on where a process starts: write sqlite:////whole/path"
            )

    def _check_models(self) -> None:
        try:
            used = {name for _, name, _, _ in Formatter().parse(self.models) if name is not None}
            self.models.format(project="project", student="student")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise DeclarationError(
                f"MLflow.models: {shown(self.models)} can't be filled in: use {{project}} and {{student}}"
            ) from error
        if "student" not in used:
            raise DeclarationError(
                f"MLflow.models: {shown(self.models)} gives all students one model: write {{student}} in it"
            )
        if bad := next((sign for sign in "/:'\"" if sign in self.models), None):
            raise DeclarationError(
                f"MLflow.models: {shown(self.models)} has a {bad} in it, which MLflow refuses: use another sign"
            )

    def model_of(self, project: str, student: str) -> str:
        """The name of a student's registered model."""
        return self.models.format(project=project, student=student)
