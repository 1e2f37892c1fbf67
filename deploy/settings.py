"""Whether the program starts with what a rendered chart sets, on top of what its image sets.

`settings.py DOCKERFILE RENDERED` reads both as the text that they are, and the settings as `serve`
does; a refusal is its one line, and exit 1.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gateway import config
from gateway.core.errors import SettingsError

IN_IMAGE = re.compile(r"(GATEWAY_\w+)=(\S+)")
IN_CONFIG_MAP = re.compile(r'^  (GATEWAY_\w+): "?([^"\n]*)"?$', re.MULTILINE)


def main(dockerfile: Path, rendered: Path) -> int:
    environ = dict(IN_IMAGE.findall(dockerfile.read_text()))
    environ |= dict(IN_CONFIG_MAP.findall(rendered.read_text()))
    try:
        config.load(environ=environ)
    except SettingsError as exc:
        print(f"{rendered.name}: {exc.message}", file=sys.stderr)
        return 1
    print(f"{rendered.name}: {len(environ)} settings, all taken")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
