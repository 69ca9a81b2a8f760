// The clients of openai-node that the flows play, and what they all say.

export const QUESTION = "What are the störe hours? 🕘";

/** The client that an app of this kind makes with an SDK; the version is that of Azure's dated paths. */
export function clientOf({ default: OpenAI, AzureOpenAI }, url, kind, apiVersion) {
  const options = {
    apiKey: "sk-test-123",
    maxRetries: 0,
    timeout: 30_000,
    defaultHeaders: {
      "x-threadtap-session": "session-node",
      "x-threadtap-session-timeout": "15",
      "x-threadtap-user": JSON.stringify({ userId: "user-node", firstName: "Ada" }),
    },
  };
  return kind === "azure-dated"
    ? new AzureOpenAI({ endpoint: url, apiVersion, ...options })
    : new OpenAI({ baseURL: `${url}/v1`, ...options });
}
