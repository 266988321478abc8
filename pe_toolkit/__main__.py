"""`python -m pe_toolkit`, the same as `pe`."""

from __future__ import annotations

from pe_toolkit.cli.main import main

if __name__ == "__main__":
    main()
