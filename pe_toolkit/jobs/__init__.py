"""Lists of independent jobs: one after the other, on the devices of one machine, or on a cluster.

A job is a function with arguments that JSON can hold, and what it finds out is one file in a
folder: whoever runs the same list into the same folder again does only what is not there yet.
"""
