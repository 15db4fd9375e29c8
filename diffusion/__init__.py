"""Diffusion, the baseline of the token families: noise is taken from pictures step by step."""
