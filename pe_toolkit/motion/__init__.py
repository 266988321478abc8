"""Motion as attention sees it: queries and keys -> displacement of every patch in every frame.

attention       queries, keys -> cross-frame attention logits
displacement    logits -> soft (differentiable) and hard (argmax) displacement
masks           which displacements to believe
flow            `AttentionMotionFlow`, the reference's motion as a value
path            that motion as one offset per frame, to start positions from
segments        things told from their background by how tokens attend to each other
registration    the camera, from how the background lies on itself in the pictures
exposure        how bright frames are against each other: a light that changes is no motion
backdrop        what lies behind all that moves; `pieces`, `courses`, `spots`: the things before it;
                `sizes`, `turns`: how far these grow and turn
steady          the same before a camera that moves, once all frames lie on each other
moves           camera and subjects of a reference; `read`, `cameras`, `subjects`: how they are read
layers          these as offsets of tokens; `blending`: of several things, and at the border
words           these in words
"""
