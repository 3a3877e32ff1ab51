"""Guidance programs: loading one, its options, and the examples that it may show."""

from mmlu_pipe.programs.examples import Examples, ExampleSet
from mmlu_pipe.programs.loading import ENTRY_POINT, Program, line_in, load_program, locate_program, place_in
from mmlu_pipe.programs.options import option_texts, parse_options

__all__ = [
    "ENTRY_POINT",
    "ExampleSet",
    "Examples",
    "Program",
    "line_in",
    "load_program",
    "locate_program",
    "option_texts",
    "parse_options",
    "place_in",
]
