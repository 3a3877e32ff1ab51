"""AzureML: the same two components in the cloud. Its SDK is imported inside functions only."""
