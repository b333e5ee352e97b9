"""The former class path of the offline store, for ``feature_store.yaml`` files that hold it.

It collides with the folder that ``feast init`` makes, so new ones say ``feast_asof.store.AsofOfflineStore``.
Belongs here: the old name. Not here: the store (feast_asof/).
"""

from feast_asof.store import AsofOfflineStore, AsofOfflineStoreConfig

__all__ = ["AsofOfflineStore", "AsofOfflineStoreConfig"]
