"""Suites: many references, their prompts and seeds, evaluated by many methods into one table."""
