"""Recorded model calls: what a request means, cassettes, scrubbing, and the transport that uses them."""
