"""Real answers of a pair of models to graded questions, and what they say of the pair."""
