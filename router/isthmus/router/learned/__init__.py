"""The first look at a request: what was learnt of questions, and the file that holds it."""
