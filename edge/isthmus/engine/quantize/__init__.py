"""Float models into 4 bits: activation-aware (AWQ, arXiv 2306.00978) or by rounding alone."""
