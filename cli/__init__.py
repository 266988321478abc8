"""The `pe` command line, installed as `pe_toolkit.cli`."""
