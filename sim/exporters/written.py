"""What an exporter returns: the files it wrote, and what the format could not say."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Files, and one sentence for each thing that is not in them or is there in another form (never dropped silently)."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
