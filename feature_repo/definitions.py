"""What ``feast apply`` applies: the chosen project's declaration, as Feast objects.

Belongs here: nothing but that. Feast finds objects as attributes of this module, so each becomes one.
"""

from exfm.load import load_project
from feature_repo.embedded import chosen_state
from feature_repo.project_views import objects_of

for _object in objects_of(load_project(), chosen_state()).all():
    globals()[f"{type(_object).__name__}_{_object.name}"] = _object
