"""How is FAISS called under a strict type checker?

The stubs that come with it leave out some of the classes used here and give others wrong
arguments, so all of it counts as untyped, in this one place.
"""

from __future__ import annotations

import importlib
from typing import Any

faiss: Any = importlib.import_module("faiss")
