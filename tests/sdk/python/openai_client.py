"""The clients of openai-python that the flows play, and what they all say."""

import warnings

import openai

# The API that is deprecated is what is played.
warnings.simplefilter("ignore", DeprecationWarning)

ATTRIBUTION = {
    "x-threadtap-session": "session-py",
    "x-threadtap-session-timeout": "15",
    "x-threadtap-user": "user-py",
}
QUESTION = "What are the störe hours? 🕘"


def client_of(url, kind, api_version):
    """The client that an app of this kind makes; the version is that of Azure's dated paths."""
    options = {"api_key": "sk-test-123", "max_retries": 0, "default_headers": ATTRIBUTION, "timeout": 30}
    if kind == "azure-dated":
        return openai.AzureOpenAI(azure_endpoint=url, api_version=api_version, **options)
    if kind == "azure-v1":
        # By Azure's own word: its v1 paths are for the plain client.
        return openai.OpenAI(base_url=f"{url}/openai/v1/", default_query={"api-version": "preview"}, **options)
    return openai.OpenAI(base_url=f"{url}/v1", **options)
