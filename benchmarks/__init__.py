"""How fast the main job is, beside a plain handler that does the same steps on the same machine."""

from __future__ import annotations
