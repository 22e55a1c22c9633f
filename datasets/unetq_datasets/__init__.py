"""Data sets by name: each module exposes ``DATASET``, a ``unetq.data.DatasetSpec``."""
