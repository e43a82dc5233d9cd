"""The page on the device: what it is served, and what it reads and keeps."""
