"""Adapters: other people's planners on the benchmark's task, one module a library.

They are imported only when they run, since the libraries come with the extra `peers`.
"""
