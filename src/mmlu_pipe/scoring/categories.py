"""MMLU's 57 subjects and the four categories they belong to.

Source: D. Hendrycks et al., "Measuring Massive Multitask Language Understanding", ICLR 2021 (arXiv:2009.03300), as
grouped by `categories.py` of the authors' repository https://github.com/hendrycks/test at
4450500f923c49f1fb1dd3d99108a0bd9717b660. That file spells the fourth name "other (business, health, misc.)".
"""

from __future__ import annotations

__all__ = ["CATEGORIES", "SUBJECTS", "category"]

CATEGORIES = ("STEM", "humanities", "social sciences", "other")
"""The category names, in the order in which scores list them."""

_STEM = (
    "abstract_algebra",
    "astronomy",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "electrical_engineering",
    "elementary_mathematics",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_mathematics",
    "high_school_physics",
    "high_school_statistics",
    "machine_learning",
)

_HUMANITIES = (
    "formal_logic",
    "high_school_european_history",
    "high_school_us_history",
    "high_school_world_history",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "moral_disputes",
    "moral_scenarios",
    "philosophy",
    "prehistory",
    "professional_law",
    "world_religions",
)

_SOCIAL_SCIENCES = (
    "econometrics",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_microeconomics",
    "high_school_psychology",
    "human_sexuality",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
)

_OTHER = (
    "anatomy",
    "business_ethics",
    "clinical_knowledge",
    "college_medicine",
    "global_facts",
    "human_aging",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "nutrition",
    "professional_accounting",
    "professional_medicine",
    "virology",
)

_CATEGORY_OF = {
    subject: name
    for name, subjects in zip(CATEGORIES, (_STEM, _HUMANITIES, _SOCIAL_SCIENCES, _OTHER), strict=True)
    for subject in subjects
}

SUBJECTS: tuple[str, ...] = tuple(sorted(_CATEGORY_OF))
"""The 57 subjects by name, spelt as in MMLU's file and configuration names."""


def category(subject: str) -> str | None:
    """The category of an MMLU subject; None for a subject outside the 57."""
    return _CATEGORY_OF.get(subject)
