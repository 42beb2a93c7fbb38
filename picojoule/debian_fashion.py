"""Where Debian's package of Fashion-MNIST puts its files, for studies that use it when they are given no data."""

from pathlib import Path

from picojoule.sim.errors import InputError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def default_data() -> str:
    """Return the Debian package's Fashion-MNIST.

    Raises:
        InputError: if it is not installed.

    """
    if not DEBIAN_FOLDER.is_dir():
        raise InputError(
            f"{DEBIAN_FOLDER} is missing; install it with `apt-get install dataset-fashion-mnist`, or give the four IDX files' "
            "folder as --data idx:DIR"
        )
    return f"idx:{DEBIAN_FOLDER}"
