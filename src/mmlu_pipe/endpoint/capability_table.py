"""The table behind `capabilities`: which models accept which field since which API version, and who says so.

Rules are data. They are folded in order, later ones over earlier ones. A bare model name stands for the
newest version under that name. Where sources are silent or disagree, the table takes the side that earns no
HTTP 400. docs/capabilities.md is the same table for people; a test holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_DOCS = "https://github.com/MicrosoftDocs/azure-ai-docs/blob"
_SPEC = "https://github.com/Azure/azure-rest-api-specs/blob/main/specification/cognitiveservices/data-plane"
_STABLE = f"{_SPEC}/AzureOpenAI/inference/stable"
_GH = "https://github.com"


@dataclass(frozen=True)
class Source:
    """Where a rule comes from: the address, what it says in our own words, and its date if it bears one."""

    url: str
    says: str
    dated: str = ""


SOURCES: dict[str, Source] = {
    "api-2024-02": Source(
        f"{_STABLE}/2024-02-01/inference.json", "the classic fields, seed and JSON mode", "2024-02-01"
    ),
    "api-2024-06": Source(
        f"{_STABLE}/2024-06-01/inference.json", "adds logprobs, with top_logprobs 0 to 5", "2024-06-01"
    ),
    "api-2024-10": Source(
        f"{_STABLE}/2024-10-21/inference.yaml",
        "adds stream_options, json_schema, max_completion_tokens and top_logprobs up to 20; "
        "no reasoning_effort; JSON mode is for GPT-4 Turbo, GPT-4o and GPT-3.5 Turbo from 1106 on",
        "2024-10-21",
    ),
    "changelog": Source(
        f"{_DOCS}/0d830ad34eda/articles/foundry/openai/includes/api-version-lifecycle-content.md",
        "stream_options and max_completion_tokens came with 2024-09-01-preview, reasoning_effort with "
        "2024-12-01-preview; v1 has the newest; a v1 example sends max_tokens to another maker's model",
        "2026-03-19",
    ),
    "seed": Source(
        f"{_DOCS}/616d4551b2fd/articles/ai-services/openai/how-to/reproducible-output.md",
        "since 2023-12-01-preview, for models from 1106 on: not 0301, 0314, 0613, hence not gpt-4-32k",
        "2024-07-19",
    ),
    "json-mode": Source(
        f"{_DOCS}/03a5bd4cf066/articles/foundry/openai/how-to/json-mode.md",
        "JSON mode came with 2023-12-01-preview",
        "2025-12-06",
    ),
    "logprobs": Source(
        f"{_GH}/MicrosoftDocs/azure-docs/issues/121243", "logprobs came with 2024-03-01-preview", "2024-06-12"
    ),
    "logprobs-gpt-4": Source(
        f"{_GH}/openai/openai-python/issues/1080", "gpt-4 0613 and 1106-Preview refuse logprobs", "2024-01-17"
    ),
    "logprobs-gpt-35": Source(
        f"{_GH}/openai/openai-python/issues/975",
        "gpt-35-turbo 0613 and 1106 still refuse logprobs",
        "2024-09-13",
    ),
    "logprobs-vision": Source(
        f"{_GH}/vercel/ai/issues/2024", "gpt-4-vision-preview refuses logprobs, even false", "2024-06-19"
    ),
    "structured": Source(
        f"{_DOCS}/1205cbf887d6/articles/foundry/openai/how-to/structured-outputs.md",
        "since 2024-08-01-preview, for models listed: GPT-4o from 2024-08-06, GPT-4.1, o1, o3, o4, GPT-5",
        "2025-12-06",
    ),
    "reasoning": Source(
        f"{_DOCS}/0d126d3a3ac2/articles/foundry/openai/how-to/reasoning.md",
        "reasoning models refuse temperature, top_p, penalties, logit_bias, logprobs and max_tokens; "
        "their effort levels; o1 does not stream; -pro and codex have no chat completions; gpt-5-chat is not "
        "among them",
        "2026-02-24",
    ),
    "stop": Source(
        f"{_GH}/crewAIInc/crewAI/pull/4227", "GPT-5 and o-series models on Azure take no stop", "2026-01-12"
    ),
    "stream-o1-mini": Source(
        f"{_GH}/Aider-AI/aider/issues/3147", "o1-mini on Azure refuses stream: true", "2025-02-06"
    ),
    "effort-o1-mini": Source(
        f"{_GH}/BerriAI/litellm/issues/11819", "o1-mini on Azure does not know reasoning_effort", "2025-06-17"
    ),
    "effort-gpt-5-chat": Source(
        f"{_GH}/logancyang/obsidian-copilot/issues/1712", "gpt-5-chat takes no reasoning_effort", "2025-08-13"
    ),
    "effort-gpt-5.x": Source(
        f"{_GH}/Azure-Samples/azure-search-openai-demo/pull/3038",
        "minimal for gpt-5 only; none, low, medium, high from gpt-5.1 on; xhigh from gpt-5.4 on",
        "2026-06-10",
    ),
    "tokens-gpt-4o": Source(
        f"{_GH}/BerriAI/litellm/issues/8855", "some gpt-4o deployments on Azure refuse max_completion_tokens"
    ),
    "tokens-tried": Source(
        f"{_GH}/NVIDIA-NeMo/Skills/pull/804",
        "tried on Azure: gpt-35-turbo and gpt-4-turbo take max_tokens only, newer ones both",
        "2025-09-09",
    ),
    "chat-instruct": Source(
        "https://learn.microsoft.com/en-us/azure/ai-services/openai/concepts/models",
        "gpt-35-turbo-instruct is served by the completions API instead of chat completions",
    ),
    "chat-embedding": Source(
        f"{_GH}/langchain-ai/langchain/issues/6363",
        "chat on an embeddings deployment is refused",
        "2023-06-18",
    ),
    "foundry": Source(
        f"{_DOCS}/087615a266a7/articles/ai-foundry/model-inference/concepts/models.md",
        "each model's response formats: text for Llama, Phi, Codestral, DeepSeek-R1, MAI and o1-mini; text "
        "and JSON for Mistral, DeepSeek-V3, Cohere and Jais",
        "2025-01-21",
    ),
    "foundry-seed": Source(
        f"{_GH}/langchain-ai/langchain-azure/issues/82",
        "of Foundry's models only GPT takes seed",
        "2025-05-21",
    ),
    "mistral-stream": Source(
        f"{_GH}/BerriAI/litellm/issues/11696", "Mistral on Foundry refuses stream_options", "2025-06-13"
    ),
    "mistral-tokens": Source(
        f"{_GH}/pydantic/pydantic-ai/issues/6593",
        "Mistral on Foundry refuses max_completion_tokens",
        "2026-07-19",
    ),
}


@dataclass(frozen=True)
class Rule:
    """`fields` have `value` for these models (a pattern of `family` names) from these API versions on."""

    fields: tuple[str, ...]
    value: Any
    source: str
    models: str = ""
    since: tuple[str, str] = ("0000", "0000")  # the first dated preview and the first dated GA, "" for none


_EFFORT = ("reasoning_effort",)
_GPT_4 = r"gpt-4(?![.o])"
_BEFORE_4O = rf"gpt-35|{_GPT_4}"
_0613 = r"gpt-4-32k|gpt-35-turbo-16k|gpt-(4|35-turbo)-0[36]"
_O1_FIRST = r"o1-(mini|preview)"
_REASONING = r"o[1-9]|gpt-5(?!-chat)|gpt-[6-9]"
_MISTRAL = r"mistral|ministral|mixtral|codestral|pixtral"
_OTHERS = rf"{_MISTRAL}|llama|deepseek|phi-|qwen|mai-|cohere|command-r|grok|kimi|jais"
_NO_SCHEMA = rf"{_MISTRAL}|llama|deepseek|phi-|mai-|cohere|command-r|jais"
_TEXT_ONLY = rf"{_O1_FIRST}|llama|phi-|codestral|deepseek-r1|mai-"
_RESPONSES_ONLY = r".*(codex|deep-research|computer-use)|(o[1-9]|gpt-[5-9](\.\d+)?)-pro"
_NOT_CHAT = r".*(embed|davinci|babbage|(^|-)ada(-|$)|dall-e|image|whisper|(^|-)tts|transcribe|realtime|sora)"
_2023_12 = ("2023-12-01-preview", "2024-02-01")
_2024_03 = ("2024-03-01-preview", "2024-06-01")
_2024_08 = ("2024-08-01-preview", "2024-10-21")
_2024_09 = ("2024-09-01-preview", "2024-10-21")
_2024_12 = ("2024-12-01-preview", "")

RULES: tuple[Rule, ...] = (
    Rule(("temperature", "top_p", "penalties", "stop", "stream"), True, "api-2024-02"),
    Rule(("token_limit",), "max_tokens", "api-2024-02"),
    Rule(("seed",), True, "seed", since=_2023_12),
    Rule(("json_object",), True, "json-mode", since=_2023_12),
    Rule(("logprobs",), True, "logprobs", since=_2024_03),
    Rule(("max_top_logprobs",), 5, "api-2024-06", since=_2024_03),
    # No source names the first preview that takes 20: the first one after the GA specification that does.
    Rule(("max_top_logprobs",), 20, "api-2024-10", since=("2024-12-01-preview", "2024-10-21")),
    Rule(("structured_outputs",), True, "structured", since=_2024_08),
    Rule(("stream_options",), True, "changelog", since=_2024_09),
    Rule(("token_limit",), "max_completion_tokens", "changelog", since=_2024_09),
    Rule(("either_token_limit",), True, "api-2024-10", since=_2024_09),
    # Reports differ on max_completion_tokens for GPT-4o; none says that it refuses max_tokens.
    Rule(("token_limit",), "max_tokens", "tokens-gpt-4o", r"gpt-35|gpt-4"),
    Rule(("either_token_limit",), False, "tokens-tried", _BEFORE_4O),
    # gpt-4-32k ends at 0613. Whether seed is refused or ignored there, nothing is lost by not sending it.
    Rule(("seed",), False, "seed", _0613),
    Rule(("json_object",), False, "api-2024-10", _0613),
    Rule(("logprobs",), False, "logprobs-gpt-4", rf"{_0613}|gpt-4-1106"),
    Rule(("logprobs",), False, "logprobs-gpt-35", r"gpt-35-turbo-1106"),
    Rule(("logprobs",), False, "logprobs-vision", r"gpt-4-(turbo-)?vision"),
    # Neither gpt-4.5-preview (retired) nor gpt-5-chat is on the list of structured outputs.
    Rule(("structured_outputs",), False, "structured", rf"{_BEFORE_4O}|gpt-4\.5|gpt-5-chat|{_O1_FIRST}"),
    Rule(("structured_outputs",), False, "structured", r"gpt-4o-(2024-05-13|(mini-)?(audio|search))"),
    Rule(("structured_outputs",), False, "foundry", _NO_SCHEMA),
    Rule(("json_object",), False, "foundry", _TEXT_ONLY),
    Rule(("seed",), False, "foundry-seed", _OTHERS),
    Rule(("token_limit",), "max_tokens", "changelog", _OTHERS),
    Rule(("either_token_limit",), False, "mistral-tokens", _MISTRAL),
    Rule(("stream_options",), False, "mistral-stream", _MISTRAL),
    # From gpt-5.1 on some report temperature and logprobs to work with effort none; Microsoft says no.
    Rule(("temperature", "top_p", "penalties", "logprobs"), False, "reasoning", _REASONING),
    Rule(("token_limit",), "max_completion_tokens", "reasoning", _REASONING),
    Rule(("either_token_limit",), False, "reasoning", _REASONING),
    Rule(("stop",), False, "stop", _REASONING),
    Rule(("stream",), False, "reasoning", r"o1"),
    Rule(("stream",), False, "stream-o1-mini", r"o1-mini"),
    Rule(_EFFORT, ("low", "medium", "high"), "reasoning", _REASONING, _2024_12),
    Rule(_EFFORT, ("minimal", "low", "medium", "high"), "reasoning", r"gpt-5(?!\.|-chat)", _2024_12),
    Rule(_EFFORT, ("none", "low", "medium", "high"), "effort-gpt-5.x", r"gpt-5\.", _2024_12),
    Rule(_EFFORT, ("none", "low", "medium", "high", "xhigh"), "effort-gpt-5.x", r"gpt-5\.[4-9]", _2024_12),
    Rule(_EFFORT, (), "effort-o1-mini", _O1_FIRST),
    Rule(_EFFORT, (), "effort-gpt-5-chat", r"gpt-5(\.\d+)?-chat"),  # gpt-5.1-chat: no source names its levels
    Rule(("chat",), False, "reasoning", _RESPONSES_ONLY),
    Rule(("chat",), False, "chat-instruct", r"gpt-35-turbo-instruct"),
    Rule(("chat",), False, "chat-embedding", _NOT_CHAT),
)

_HEAD = re.compile(rf"(?<![a-z0-9])(gpt-(\d|oss)|o[1-9](?![a-z0-9])|{_OTHERS})")
_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_UNDATED = re.compile(r"v\d+|preview|latest|")


def family(model: str) -> str:
    """The model's name as the rules spell it: lower case, Azure's `gpt-35`, nothing before the family."""
    name = re.sub(r"[\s_/:]+", "-", model.strip().lower())
    name = re.sub(r"gpt-?(\d)", r"gpt-\1", name)
    name = re.sub(r"gpt-3[.-]5", "gpt-35", name)
    name = re.sub(r"gpt-([4-9])[.-]?([1-9])(?![0-9a-z])", r"gpt-\1.\2", name)
    name = re.sub(r"(?<![a-z0-9])o([1-9])(mini|preview|pro)", r"o\1-\2", name)
    name = re.sub(r"(20\d\d)(\d\d)(\d\d)", r"\1-\2-\3", name)
    found = _HEAD.search(name)
    return name[found.start() :] if found else name


def check_version(api_version: str) -> str:
    """The API version in lower case; nothing at all stands for v1."""
    version = api_version.strip().lower()
    if _DATED.fullmatch(version) or _UNDATED.fullmatch(version):
        return version or "v1"
    raise ValueError(f"API version {api_version!r} is neither dated (2024-10-21, 2025-04-01-preview) nor v1")


def look_up(model: str, version: str) -> dict[str, Any]:
    """Every field's value by the rules that apply."""
    name, dated = family(model), _DATED.fullmatch(version)
    known: dict[str, Any] = {}
    for rule in RULES:
        if dated:
            first = rule.since[0] if dated[2] else rule.since[1]
            if not first or dated[1] < first[:10]:
                continue
        if re.match(rule.models, name):
            known.update(dict.fromkeys(rule.fields, rule.value))
    return known
