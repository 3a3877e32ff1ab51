"""A small open model behind Azure OpenAI's chat API on this machine: live answers without an account."""
