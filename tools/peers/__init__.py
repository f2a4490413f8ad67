"""Comparison of kvlab's decode speed with llama.cpp and Hugging Face transformers.

Started by tools/bench_peers, which makes the environment these modules run in.
"""
