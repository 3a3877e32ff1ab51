"""Configuration, logins, roles and reachability, checked one by one before anything is spent on them."""
