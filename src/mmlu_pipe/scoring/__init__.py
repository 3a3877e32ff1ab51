"""Pure functions over responses: accuracy and its uncertainty."""
