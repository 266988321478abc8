"""Motion as attention sees it: queries and keys -> displacement of every patch in every frame.

attention       queries, keys -> cross-frame attention logits
displacement    logits -> soft (differentiable) and hard (argmax) displacement
masks           which displacements to believe
flow            `AttentionMotionFlow`, the reference's motion as a value
path            that motion as one offset per frame, to start positions from
segments        things told from their background by how tokens attend to each other
registration    the camera, from how the background lies on itself in the pictures
moves           camera and subjects of a reference
layers          these as offsets of tokens
words           these in words
"""
