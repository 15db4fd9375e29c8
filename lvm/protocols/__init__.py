"""Protocols of others on photographs of the user's: Bar et al. 2022, "Visual Prompting via Image Inpainting"."""
