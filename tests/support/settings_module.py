"""The project's settings as another environment would have them, read in this process."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from config import env

SOURCE = Path(__file__).resolve().parents[2] / "config" / "settings.py"


def read(**environment: str) -> ModuleType:
    """Run `config/settings.py` anew, beside the settings in use. Its problems are in `CONFIGURATION_PROBLEMS`."""
    spec = spec_from_file_location("config.settings_read_again", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with patch.dict(os.environ, environment), patch.object(env, "problems", []):
        spec.loader.exec_module(module)
    return module
