"""DALL-E: captions and images as one stream of tokens (Ramesh et al. 2021)."""
