"""The wire contract: stubs generated from the .proto files beside them (`make proto`)."""
