"""A family: captions and images as one stream, after DALL-E (Ramesh et al. 2021)."""
