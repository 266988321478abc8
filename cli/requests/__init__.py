"""The options of a command as one typed value. Its fields bear the names of click's parameters;
those that the library takes come from the library's own request.
"""
