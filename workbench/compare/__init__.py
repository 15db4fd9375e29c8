"""Comparisons with other libraries, each in one run with its ceiling; docs/results.md is their notebook."""
