"""Our class of every case that the corpus calls an error, by hand from `wire/README.md`.

A truncated answer is one where the provider said nothing of an error.
"""

from __future__ import annotations

from relay.errors import Reason

_CASES: dict[Reason, str] = {
    Reason.FIRST_TOKEN_TIMEOUT: """
        anthropic/error-504-timeout--composed
        gemini/error-504-deadline--composed
        openrouter/error-408--composed
    """,
    Reason.UPSTREAM_CONTENT_BLOCKED: """
        azure-openai/nonstream-error--openllmetry-testing--01
        openai-chat/error-400-content-filter-azure--composed
        openrouter/error-403-moderation--composed
        qwen/error-400-data-inspection--composed
    """,
    Reason.UPSTREAM_FAILED: """
        anthropic/error-500-api-error--composed
        deepseek/error-500--composed
        gemini/error-500-internal--composed
        groq/error--gpt-oss-120b--01
        groq/stream-error--gpt-oss-120b--01
        llamacpp/error--qwen3-1.7b-q4-k-m--02
        llamacpp/error--qwen3-1.7b-q4-k-m--04
        llamacpp/error--qwen3-vl-2b-instruct-q8-0--01
        ollama/stream-ndjson-error--composed
        openai-chat/error-500-server-error--composed
        openai-chat/error-502-html--composed
        openai-chat/stream-200-json-error-body--composed
        openai-chat/stream-error-midstream--composed
        openrouter/error-502--composed
        openrouter/nonstream-200-error-body--composed
        openrouter/stream-error-midstream--composed
        vllm/stream-error-mid--composed
    """,
    Reason.UPSTREAM_MISCONFIGURED: """
        anthropic/error--claude-3-opus-20240229--01
        anthropic/error--claude-sonnet-4-6--08
        azure-openai/error--grok-4-1-fast-non-reasoning--02
        deepseek/error--deepseek-v4-flash--05
        gemini/error--gemini-2.5-flash--02
        gemini/error--gemini-2.5-flash--03
        gemini/error-403-permission--composed
        groq/error--llama-3.3-70b-versatile--01
        llamacpp/error--qwen3-1.7b-q4-k-m--05
        openai-chat/error--gpt-4--01
        openai-chat/error--gpt-4o--02
        openai-responses/error--gpt-4-does-not-exist-12345--01
        openai-responses/error--gpt-4.1--01
        openai-responses/error--gpt-4.1-nano--01
        openrouter/error--claude-haiku-4.5--02
        qwen/error--qwen-turbo--01
    """,
    Reason.UPSTREAM_MODEL_NOT_FOUND: """
        anthropic/error--claude-nonexistent-model-for-error--01
        anthropic/error--claude-nonexistent-model-for-ident--01
        anthropic/error--claude-nonexistent-rig-test--01
        azure-openai/error--gpt-4.1-mini--01
        azure-openai/error--gpt-5-nano--01
        gemini-vertex/error--gemini-does-not-exist--01
        gemini/error--gemini-nonexistent-model-for-ident--01
        gemini/error--gemini-nonexistent-rig-test--01
        groq/error--groq-nonexistent-model-for-identit--01
        groq/error--llama-3.3-70b-versatlie--01
        mistral/error--definitely-not-a-model--01
        ollama/error--nonexistent-model-latest--01
        openai-chat/error--gpt-3.5-turbo-0613--01
        openai-chat/error--gpt-5.2-proo--01
        openai-chat/error--not-found-test-chat-model--01
        openai-chat/error--this-model-does-not-exist--01
        openai-responses/error--gpt-4o-mini-nonexistent-rig-test--01
        openai-responses/error--gpt-5.2-proo--01
        openai-responses/error--gpt-nonexistent-model-for-error-ed--01
        openai-responses/error--invalid-model--01
        openai-responses/error--this-model-does-not-exist--01
        xai-responses/error--grok-nonexistent-model-for-identit--01
    """,
    Reason.UPSTREAM_OVERLOADED: """
        anthropic/error-529-overloaded--composed
        anthropic/stream-error-overloaded-first--composed
        anthropic/stream-error-overloaded-mid--composed
        deepseek/error-503--composed
        gemini/error-503-overloaded--composed
        gemini/stream-error-mid--composed
        groq/error-503--composed
        openai-chat/error-503-overloaded--composed
        openrouter/error-503--composed
    """,
    Reason.UPSTREAM_PERMISSION_DENIED: """
        anthropic/error-403-permission--composed
        gemini/error-400-failed-precondition--composed
        openai-chat/error-403-unsupported-country--composed
    """,
    Reason.UPSTREAM_QUOTA_EXHAUSTED: """
        anthropic/error-400-credit-low--composed
        anthropic/error-402-billing--composed
        anthropic/error-429-spend-limit--composed
        deepseek/error-402-balance--composed
        gemini/error-429-per-day--composed
        openai-chat/error-429-insufficient-quota--composed
        openai-responses/stream-error--gpt-5-nano-2025-08-07--p01
        openrouter/error-402--composed
        qwen/error-400-arrearage--composed
        qwen/error-429-allocated-quota--composed
        tokenmix/error-402--composed
    """,
    Reason.UPSTREAM_RATE_LIMITED: """
        anthropic/error-429-rate-limit--composed
        deepseek/error-429--composed
        gemini/error-429-array-body--composed
        gemini/error-429-per-minute--composed
        groq/error-429--composed
        groq/error-498-flex-capacity--composed
        mistral/error-429--composed
        mistral/error-429-capacity--composed
        openai-chat/error-429-rate-limit-requests--composed
        openai-chat/error-429-rate-limit-tokens--composed
        openai-chat/error-429-slow-down--composed
        openrouter/error--gemini-2.0-flash-exp-free--01
        qwen/error-429-throttling--composed
    """,
    Reason.UPSTREAM_REJECTED: """
        anthropic/error--claude-3-opus-20240229--02
        anthropic/error--claude-sonnet-4-6--01
        anthropic/error--claude-sonnet-4-6--02
        anthropic/error--claude-sonnet-4-6--04
        anthropic/error--claude-sonnet-4-6--05
        anthropic/error--claude-sonnet-4-6--07
        anthropic/error--claude-sonnet-4-6--10
        anthropic/error--claude-sonnet-4-6--11
        anthropic/error-413-too-large--composed
        deepseek-responses/error--deepseek-v4-flash--01
        deepseek/error--deepseek-chat--02
        deepseek/error--deepseek-v4-flash--01
        deepseek/error--deepseek-v4-flash--02
        deepseek/error--deepseek-v4-flash--03
        deepseek/error--deepseek-v4-flash--06
        deepseek/error-422--composed
        gemini-vertex/error--gemini-2.5-flash--01
        gemini-vertex/error--gemini-3-flash-preview--01
        groq/error-413--composed
        llamacpp/error--qwen3-1.7b-q4-k-m--01
        llamacpp/error--qwen3-1.7b-q4-k-m--06
        mistral/error--ministral-3b-latest--01
        mistral/error-422-validation--composed
        ollama/error--gpt-oss-120b--02
        openai-chat/error--gpt-4o--03
        openai-chat/error--gpt-4o-mini--02
        openai-chat/error--gpt-4o-mini--03
        openai-chat/error--gpt-5-nano--02
        openai-chat/error--o1-mini--01
        openai-chat/error--o1-mini--02
        openai-chat/error-429-request-too-large--composed
        openai-responses/error--gpt-5--01
        openai-responses/error--gpt-5-mini--01
        openai-responses/error--gpt-5-mini--03
        openai-responses/error--gpt-5-nano--01
        openai-responses/stream-error--gpt-4o-2024-08-06--p01
        openrouter/error--claude-haiku-4.5--01
        openrouter/stream-error--minimax-m2-free--01
        perplexity/error--sonar--01
        qwen/error-400-thinking-nonstream--composed
        vllm/error-400-context--composed
        vllm/error-400-context-legacy-flat--composed
    """,
    Reason.UPSTREAM_TRUNCATED: """
        openai-chat/stream-cut-without-done--composed
        openai-chat/stream-empty-body--composed
    """,
}

REASONS: dict[str, Reason] = {
    name: reason for reason, names in _CASES.items() for name in names.split()
}
"""By the name of the case."""
