"""Where cards are kept and shared, installed as `pe_toolkit.registry`."""
