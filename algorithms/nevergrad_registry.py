def fit_name(n, r): return n
