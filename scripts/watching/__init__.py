"""What is watched: the metrics that the program exports, and the queries that ask for them."""
