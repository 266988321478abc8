"""`pe ui`: a page in the browser. It calls the library as the commands do.

work     one piece of work at a time: a queue, one thread, a way to stop
studio   what a piece of work does: load, look at a clip, train; the cards
making   videos with a card, each beside the same without it
words    what a job says, as HTML: everything that a stranger wrote comes out as text
handlers what happens when something is pressed
layout   the parts of the page; with `handlers`, the only file that imports gradio
server   a local address that answers at once, while the rest is still being imported
"""
