"""Azure OpenAI chat: one client, what a deployment accepts, guidance on top of it, and `select`."""
