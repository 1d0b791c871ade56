"""How is FAISS called under a strict type checker?

The stubs that come with it leave out some of the classes used here and give others wrong
arguments, so all of it counts as untyped, in this one place.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

faiss: Any = importlib.import_module("faiss")


def without_wrapper(name: str) -> Any:
    """A function of FAISS's, or a method given its object first, as C itself.

    The wrapper in Python around it costs a search more than scoring a row does.
    """
    module = sys.modules[faiss.swig_ptr.__module__]
    return getattr(getattr(module, "_swigfaiss", module), name)
