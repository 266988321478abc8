"""Learn the motion of a clip and give it to something else, in Python.

python examples/transfer.py reference.mp4 "a blue cross on a black background"
"""

import sys

import pe_toolkit as pe

reference, prompt = sys.argv[1:3]
backbone = pe.load_backbone("auto", on_event=print)
width, height = backbone.size
clip = pe.read_clip(reference, frames=backbone.frames, size=(width, height))

for event in pe.train(backbone, clip, pe.TrainConfig(name="my-motion")):
    print(event)
card = event.card  # the last event is Finished
card.save("my-motion.safetensors", force=True)

with pe.applied(backbone.pipe, card) as log:
    frames = backbone.pipe(prompt, output_type="np", **card.pipe_kwargs()).frames[0]
print(f"{log.guided_steps} steps were guided")
pe.write_video(
    "transfer.mp4", (frames * 255).round().astype("uint8"), card.spec.clip.fps, force=True
)
