"""Conversations as users of agent frameworks write them: three turns, and a turn with a tool. No ids of responses are passed on, and
no headers of threadtap's are set: the framework resends what it has.

usage: framework_flows.py URL FRAMEWORK

Prints, by flow, the ids of its responses in order.
"""

import asyncio
import json
import sys

TURNS = ["What are the store hours?", "And on Sundays?", "Thank you."]


def openai_agents(url):
    import agents
    import openai

    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test-123", max_retries=0)

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    @agents.function_tool
    def get_time(zone: str) -> str:
        """The time in a zone."""
        return f"noon in {zone}"

    def agent(model, **options):
        return agents.Agent(
            name="clerk",
            instructions="You keep a store.",
            model=agents.OpenAIResponsesModel(model=model, openai_client=client),
            **options,
        )

    async def turns(model, texts, streamed=False, **options):
        history, ids = [], []
        for text in texts:
            asked = history + [{"role": "user", "content": text}]
            if streamed:
                result = agents.Runner.run_streamed(agent(model, **options), asked)
                async for _ in result.stream_events():
                    pass
            else:
                result = await agents.Runner.run(agent(model, **options), asked)
            history = result.to_input_list()
            ids += [response.response_id for response in result.raw_responses]
        return ids

    async def session():
        ids, memory = [], agents.SQLiteSession("memory")
        for text in TURNS:
            result = await agents.Runner.run(agent("gpt-5"), text, session=memory)
            ids += [response.response_id for response in result.raw_responses]
        return ids

    async def all_flows():
        return {
            "turns": await turns("gpt-5", TURNS),
            "turns, streamed": await turns("gpt-5", TURNS, streamed=True),
            "turns of a session": await session(),
            "tool": await turns("fake-tools", TURNS[:1], tools=[get_weather, get_time]),
        }

    return asyncio.run(all_flows())


def langchain(url):
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI

    def turns(streamed):
        model = ChatOpenAI(
            model="gpt-5",
            base_url=f"{url}/v1",
            api_key="sk-test-123",
            max_retries=0,
            use_responses_api=True,
            output_version="responses/v1",
        )
        messages, ids = [SystemMessage("You keep a store.")], []
        for text in TURNS:
            messages.append(HumanMessage(text))
            if streamed:
                answer = None
                for chunk in model.stream(messages):
                    answer = chunk if answer is None else answer + chunk
            else:
                answer = model.invoke(messages)
            messages.append(answer)
            ids.append(answer.response_metadata["id"])
        return ids

    return {"turns": turns(False), "turns, streamed": turns(True)}


FRAMEWORKS = {"langchain": langchain, "openai-agents": openai_agents}


if __name__ == "__main__":
    print(json.dumps(FRAMEWORKS[sys.argv[2]](sys.argv[1])))
