"""Published tokenizers: what a file holds, which layout it is, what its tensors are called here."""
