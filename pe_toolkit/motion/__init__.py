"""Motion as attention sees it: queries and keys -> displacement of every patch in every frame.

attention       queries, keys -> cross-frame attention logits
displacement    logits -> soft (differentiable) and hard (argmax) displacement
masks           which displacements to believe
flow            `AttentionMotionFlow`, the reference's motion as a value
path            that motion as one offset per frame, to start positions from
segments        things told from their background by how tokens attend to each other
registration    the camera, from how the background lies on itself in the pictures
backdrop        what lies behind all that moves; `pieces`, `spots`: the things before it
steady          the same before a camera that moves, once all frames lie on each other
moves           camera and subjects of a reference; `read`, `cameras`, `subjects`: how they are read
layers          these as offsets of tokens
words           these in words
"""
