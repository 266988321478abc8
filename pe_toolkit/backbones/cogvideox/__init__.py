"""The family of CogVideoX: bundled, 2b, 5b and 1.5, text-to-video and image-to-video."""
