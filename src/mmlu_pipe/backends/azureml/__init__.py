"""AzureML: the same two components in the cloud. Only client, watch and download load its SDK."""
