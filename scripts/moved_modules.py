"""Print the modules that an editable install looks for where they are no longer.

The install keeps a table of modules and files. New files need no entry, but one that was moved, or
became a package, is looked for at its old place until the project is installed again.
"""

from __future__ import annotations

import sys
from pathlib import Path

for finder in sys.meta_path:
    for module, path in getattr(finder, "known_source_files", {}).items():
        if not Path(path).exists():
            print(module)
