"""Files of weights by name, and the parts that a checkpoint of changes lies on. Without torch, which is slow to import.

Belongs here: names. Not here: reading and writing them (weights.py), what changes (changes.py).
"""

from exfm.declaration import declaration

WEIGHTS, CHANGES, SERVING = "weights.safetensors", "changes.safetensors", "serving.safetensors"
GRAPH, SIGNATURE = "model.onnx", "signature.json"  # of a release, for runtimes without torch
TOWERS = {"user": "user_tower.onnx", "item": "item_tower.onnx"}  # of a release of a network with two towers


@declaration
class Part:
    """Weights of an earlier slice that later ones are changes of.

    Args:
        slice: key of the slice that wrote them.
        weights: sha256 of the file, and its name in the folder ``parts`` beside the slices.
    """

    slice: str
    weights: str
