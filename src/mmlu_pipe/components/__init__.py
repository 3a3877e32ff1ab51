"""The two components of the pipeline, each declared once (component.py) and run by every backend."""
