"""What must not leave the device: finding it. Deciding, redacting and restoring build on this."""
