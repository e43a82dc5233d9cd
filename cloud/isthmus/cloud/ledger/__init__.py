"""What is owed: usage by device, tenant, model and day, in whole micro-dollars."""
