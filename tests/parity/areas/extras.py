"""The area `extras`: each case by what its specification holds."""

from __future__ import annotations

import importlib
import importlib.util

from tests.parity.loader import Case

# A key that only this kind of case has, and the adapter (module, function) for it.
_ADAPTERS = {
    "encode_line": ("extras_dictionary", "run_dictionary"),
    "rows": ("extras_encoders", "run_encoders"),
    "runs": ("extras_average", "run_average"),
    "trajectories": ("extras_loss_scaler", "run_loss_scaler"),
}


def run(case: Case) -> None:
    """Hand the case to the adapter of its kind."""
    for key, (module, function) in _ADAPTERS.items():
        name = f"{__package__}.{module}"
        if key in case.spec and importlib.util.find_spec(name) is not None:
            getattr(importlib.import_module(name), function)(case)
            return
    case.not_built(f"{case.spec.get('what', 'unknown kind')}: a later issue")
