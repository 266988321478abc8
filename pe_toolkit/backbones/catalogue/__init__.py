"""What is known of each backbone before it is loaded: its row of defaults with their sources, and
the published configuration. Imports nothing heavy.
"""
