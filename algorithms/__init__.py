"""The built-in search methods: one a file, behind ask and tell; no I/O, no brokers, no clocks.

They are found through `algorithms.registry`, which imports none of them.
"""
