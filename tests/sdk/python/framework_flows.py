"""Conversations as users of agent frameworks write them: three turns, a turn with tools and one after it, handoffs to another agent. No
ids of responses are passed on by hand, and no headers of threadtap's are set, save where a session and a user are named.

usage: framework_flows.py URL MERGING CONTROL FRAMEWORK

What ends in `, merged` is played against MERGING, everything else against URL. Prints, by flow, the ids of its responses in order, which
the fake server tells at CONTROL.
"""

import asyncio
import json
import sys
import urllib.request
from dataclasses import dataclass
from functools import partial

INSTRUCTIONS = "You keep a store."
OTHER_INSTRUCTIONS = "You take orders."
KEY = "sk-test-123"
# What the fake server does by these names of models.
HANDOFF = "fake-handoff"
THINKING = "fake-reason"
TWICE = "fake-tool_twice"
MERGED = ("handoff", "handoff by id", "handoff within a loop", "tool", "tool, twice")


@dataclass
class Talk:
    """A conversation to be held: by which API, where, and what the user says."""

    api: str
    url: str
    texts: list

    @property
    def base_url(self):
        return f"{self.url}/v1"

    @property
    def on_responses(self):
        return self.api == "Responses"


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"noon in {zone}"


def openai_agents():
    import agents
    import openai

    agents.set_tracing_disabled(True)
    tools = [agents.function_tool(get_weather), agents.function_tool(get_time)]

    def clerk(talk, model="gpt-5", name="clerk", instructions=INSTRUCTIONS, **options):
        client = openai.AsyncOpenAI(base_url=talk.base_url, api_key=KEY, max_retries=0)
        kind = agents.OpenAIResponsesModel if talk.on_responses else agents.OpenAIChatCompletionsModel
        model = kind(model=model, openai_client=client)
        return agents.Agent(name=name, instructions=instructions, model=model, **options)

    async def turns(talk, model="gpt-5"):
        history = []
        for text in talk.texts:
            result = await agents.Runner.run(clerk(talk, model), history + [{"role": "user", "content": text}])
            history = result.to_input_list()

    async def streamed(talk):
        history = []
        for text in talk.texts:
            result = agents.Runner.run_streamed(clerk(talk), history + [{"role": "user", "content": text}])
            async for _ in result.stream_events():
                pass
            history = result.to_input_list()

    async def session(talk):
        memory = agents.SQLiteSession("memory")
        for text in talk.texts:
            await agents.Runner.run(clerk(talk), text, session=memory)

    async def by_id(talk):
        last = None
        for text in talk.texts:
            last = (await agents.Runner.run(clerk(talk), text, previous_response_id=last)).last_response_id

    async def tool(talk, model="fake-tools"):
        memory = agents.SQLiteSession("memory")
        await agents.Runner.run(clerk(talk, model, tools=tools), talk.texts[0], session=memory)
        await agents.Runner.run(clerk(talk), talk.texts[1], session=memory)

    def handing_off(talk):
        cashier = clerk(talk, HANDOFF, name="cashier", instructions=OTHER_INSTRUCTIONS)
        first = clerk(talk, HANDOFF, handoffs=[cashier])
        cashier.handoffs.append(first)
        return first

    async def handoff(talk):
        agent, history = handing_off(talk), []
        for text in talk.texts:
            result = await agents.Runner.run(agent, history + [{"role": "user", "content": text}])
            agent, history = result.last_agent, result.to_input_list()

    async def handoff_by_id(talk):
        agent, last, options = handing_off(talk), None, {"auto_previous_response_id": True}
        for text in talk.texts:
            result = await agents.Runner.run(agent, text, previous_response_id=last, **options)
            agent, last = result.last_agent, result.last_response_id

    async def named(talk, session, user):
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        run_config = agents.RunConfig(model_settings=agents.ModelSettings(extra_headers=headers))
        agent, memory = handing_off(talk), agents.SQLiteSession("memory")
        for text in talk.texts:
            result = await agents.Runner.run(agent, text, session=memory, run_config=run_config)
            agent = result.last_agent

    chat = {
        "turns": turns,
        "turns, streamed": streamed,
        "turns of a session": session,
        "turns, thinking": partial(turns, model=THINKING),
        "tool": tool,
        "tool, twice": partial(tool, model=TWICE),
        "handoff": handoff,
        "named handoff": named,
    }
    return {"Responses": chat | {"turns by id": by_id, "handoff by id": handoff_by_id}, "Chat": chat}


def langchain():
    from langchain.agents import AgentState, create_agent
    from langchain.agents.middleware import wrap_model_call
    from langchain.tools import ToolRuntime
    from langchain.tools import tool as langchain_tool
    from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
    from langchain_openai import ChatOpenAI
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.types import Command

    def options_of(talk, name="gpt-5"):
        options = {"model": name, "base_url": talk.base_url, "api_key": KEY, "max_retries": 0}
        return options | {"use_responses_api": talk.on_responses}

    def model_of(talk, name="gpt-5", **options):
        return ChatOpenAI(**options_of(talk, name), **options)

    async def turns(talk, name="gpt-5", **options):
        messages = [SystemMessage(INSTRUCTIONS)]
        for text in talk.texts:
            messages.append(HumanMessage(text))
            messages.append(model_of(talk, name, **options).invoke(messages))

    async def streamed(talk):
        messages = [SystemMessage(INSTRUCTIONS)]
        for text in talk.texts:
            messages.append(HumanMessage(text))
            answer = None
            for chunk in model_of(talk).stream(messages):
                answer = chunk if answer is None else answer + chunk
            messages.append(answer)

    async def thread(talk):
        thread = {"configurable": {"thread_id": "thread"}}
        agent = create_agent(model_of(talk), system_prompt=INSTRUCTIONS, checkpointer=InMemorySaver())
        for text in talk.texts:
            agent.invoke({"messages": [HumanMessage(text)]}, thread)

    async def tool(talk, caller="fake-tools"):
        messages = []
        for name, text in zip([caller, "gpt-5"], talk.texts):
            agent = create_agent(model_of(talk, name), tools=[get_weather, get_time], system_prompt=INSTRUCTIONS)
            messages = agent.invoke({"messages": [*messages, HumanMessage(text)]})["messages"]

    class Store(MessagesState):
        agent: str

    def transfer_to(name):
        @langchain_tool(f"transfer_to_{name}")
        def transfer(runtime: ToolRuntime) -> Command:
            """Hands over to another agent."""
            done = ToolMessage(f"Transferred to {name}.", tool_call_id=runtime.tool_call_id)
            update = {"agent": name, "messages": [*runtime.state["messages"], done]}
            return Command(goto=name, graph=Command.PARENT, update=update)

        return transfer

    async def handoff(talk, **options):
        graph = StateGraph(Store)
        for name, other, prompt in [("clerk", "cashier", INSTRUCTIONS), ("cashier", "clerk", OTHER_INSTRUCTIONS)]:
            model, tools = model_of(talk, HANDOFF, **options), [transfer_to(other)]
            graph.add_node(name, create_agent(model, tools=tools, system_prompt=prompt, name=name))
        graph.add_conditional_edges(START, lambda state: state.get("agent", "clerk"), ["clerk", "cashier"])
        store, thread = graph.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "thread"}}
        for text in talk.texts:
            store.invoke({"messages": [HumanMessage(text)]}, thread)

    async def within_a_loop(talk):
        class Step(AgentState):
            agent: str

        def transfer_to_cashier(runtime: ToolRuntime) -> Command:
            """Hands over to the cashier."""
            done = ToolMessage("Transferred to cashier.", tool_call_id=runtime.tool_call_id)
            return Command(update={"agent": "cashier", "messages": [done]})

        @wrap_model_call
        def of_agent(request, handler):
            is_cashier = request.state.get("agent") == "cashier"
            return handler(request.override(system_prompt=OTHER_INSTRUCTIONS, tools=[]) if is_cashier else request)

        options = {"system_prompt": INSTRUCTIONS, "middleware": [of_agent], "state_schema": Step}
        calling, memory = model_of(talk, HANDOFF), InMemorySaver()
        store = create_agent(calling, tools=[transfer_to_cashier], checkpointer=memory, **options)
        for text in talk.texts[:2]:
            store.invoke({"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": "thread"}})

    async def named(talk, session, user):
        model, messages = model_of(talk), [SystemMessage(INSTRUCTIONS), HumanMessage(talk.texts[0])]
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        model.invoke(messages, extra_headers=headers)

    async def named_agent(talk, session, user):
        options, messages = options_of(talk), [HumanMessage(talk.texts[0])]
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        model = ChatOpenAI(default_headers=headers, **options)
        create_agent(model, system_prompt=INSTRUCTIONS).invoke({"messages": messages})

    chat = {
        "turns": turns,
        "turns, streamed": streamed,
        "turns of a thread": thread,
        "turns, thinking": partial(turns, name=THINKING),
        "tool": tool,
        "tool, twice": partial(tool, caller=TWICE),
        "handoff": handoff,
        "handoff within a loop": within_a_loop,
        "named": named,
        "named, an agent": named_agent,
    }
    responses = {
        "turns of items": partial(turns, output_version="responses/v1"),
        "turns by id": partial(turns, use_previous_response_id=True),
        "handoff by id": partial(handoff, use_previous_response_id=True),
    }
    return {"Responses": chat | responses, "Chat": chat}


def pydantic_ai():
    from pydantic import BaseModel
    from pydantic_ai import Agent, RunContext, ToolOutput
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def clerk(talk, name="gpt-5", instructions=INSTRUCTIONS, **options):
        kind = OpenAIResponsesModel if talk.on_responses else OpenAIChatModel
        model = kind(name, provider=OpenAIProvider(base_url=talk.base_url, api_key=KEY))
        return Agent(model, instructions=instructions, **options)

    async def turns(talk, name="gpt-5", **options):
        history = []
        for text in talk.texts:
            result = await clerk(talk, name, **options).run(text, message_history=history)
            history = result.all_messages()

    async def streamed(talk):
        history = []
        for text in talk.texts:
            async with clerk(talk).run_stream(text, message_history=history) as result:
                await result.get_output()
            history = result.all_messages()

    async def tool(talk, caller="fake-tools"):
        history = []
        for name, text in zip([caller, "gpt-5"], talk.texts):
            result = await clerk(talk, name, tools=[get_weather, get_time]).run(text, message_history=history)
            history = result.all_messages()

    async def of_object(talk):
        class City(BaseModel):
            city: str

        # A model answers an object by calling a tool, and what that returned is told with the next question.
        asks = ToolOutput(City, name="get_weather")
        history = []
        for name, text, options in zip(["fake-tool", "gpt-5", "gpt-5"], talk.texts, [{"output_type": asks}, {}, {}]):
            history = (await clerk(talk, name, **options).run(text, message_history=history)).all_messages()

    async def handed_on(talk):
        history = []
        for text, instructions in zip(talk.texts, [INSTRUCTIONS, OTHER_INSTRUCTIONS, OTHER_INSTRUCTIONS]):
            agent = clerk(talk, instructions=instructions)
            history = (await agent.run(text, message_history=history)).all_messages()

    async def handoff(talk):
        cashier = clerk(talk, instructions=OTHER_INSTRUCTIONS)

        async def hand_off_to_cashier(context: RunContext) -> str:
            """Hands over to the cashier."""
            return (await cashier.run(message_history=context.messages[:-1])).output

        hands_off = ToolOutput(hand_off_to_cashier, name="hand_off_to_cashier")
        result = await clerk(talk, HANDOFF, output_type=hands_off).run(talk.texts[0])
        await cashier.run(talk.texts[1], message_history=result.all_messages())

    async def named(talk, session, user):
        agent, text = clerk(talk), talk.texts[0]
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        await agent.run(text, model_settings={"extra_headers": headers})

    chat = {
        "turns": turns,
        "turns, streamed": streamed,
        "turns, thinking": partial(turns, name=THINKING),
        "turns, an object first": of_object,
        "tool": tool,
        "tool, twice": partial(tool, caller=TWICE),
        "turns, handed on": handed_on,
        "handoff inside": handoff,
        "named": named,
    }
    responses = {
        "turns by id": partial(turns, model_settings={"openai_previous_response_id": "auto"}),
        # Of models that are not known to think no ids are repeated, and what they think is in words.
        "turns of an old model": partial(turns, name="gpt-4.1"),
        "turns, known to think": partial(turns, model_settings={"extra_body": {"metadata": {"behaviour": "reason"}}}),
    }
    return {"Responses": chat | responses, "Chat": chat}


def semantic_kernel():
    from openai import AsyncOpenAI
    from semantic_kernel.agents import (
        ChatCompletionAgent,
        HandoffOrchestration,
        OpenAIResponsesAgent,
        OrchestrationHandoffs,
    )
    from semantic_kernel.agents.runtime import InProcessRuntime
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    from semantic_kernel.functions import kernel_function

    class Store:
        get_weather = staticmethod(kernel_function(get_weather))
        get_time = staticmethod(kernel_function(get_time))

    def options_of(talk):
        return {"base_url": talk.base_url, "api_key": KEY, "max_retries": 0}

    def clerk(talk, model="gpt-5", plugins=(), client=None, name="clerk", instructions=INSTRUCTIONS):
        client = client or AsyncOpenAI(**options_of(talk))
        of_both = {"name": name, "instructions": instructions, "plugins": list(plugins)}
        if talk.on_responses:
            return OpenAIResponsesAgent(ai_model_id=model, client=client, **of_both)
        return ChatCompletionAgent(service=OpenAIChatCompletion(ai_model_id=model, async_client=client), **of_both)

    async def turns(talk, model="gpt-5"):
        thread = None
        for text in talk.texts:
            thread = (await clerk(talk, model).get_response(text, thread=thread)).thread

    async def streamed(talk):
        thread = None
        for text in talk.texts:
            async for piece in clerk(talk).invoke_stream(text, thread=thread):
                thread = piece.thread

    async def tool(talk, caller="fake-tools"):
        thread = None
        for model, text in zip([caller, "gpt-5"], talk.texts):
            thread = (await clerk(talk, model, [Store()]).get_response(text, thread=thread)).thread

    async def handed_on(talk):
        thread = None
        for text, instructions in zip(talk.texts, [INSTRUCTIONS, OTHER_INSTRUCTIONS, OTHER_INSTRUCTIONS]):
            thread = (await clerk(talk, instructions=instructions).get_response(text, thread=thread)).thread

    async def handoff(talk, session, user):
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        client = AsyncOpenAI(default_headers=headers, **options_of(talk))
        agents = [
            clerk(talk, HANDOFF, client=client),
            clerk(talk, client=client, name="cashier", instructions=OTHER_INSTRUCTIONS),
        ]
        handoffs = OrchestrationHandoffs().add("clerk", "cashier")
        runtime = InProcessRuntime()
        runtime.start()
        orchestration = HandoffOrchestration(members=agents, handoffs=handoffs)
        await (await orchestration.invoke(talk.texts[0], runtime)).get()
        await runtime.stop_when_idle()

    async def named(talk, session, user):
        options = options_of(talk)
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        client = AsyncOpenAI(default_headers=headers, **options)
        await clerk(talk, client=client).get_response(talk.texts[0])

    async def named_by_metadata(talk, session, user):
        agent, text = clerk(talk), talk.texts[0]
        metadata = {"session_id": session, "user_id": user}
        await agent.get_response(text, metadata=metadata)

    chat = {
        "turns": turns,
        "turns, streamed": streamed,
        "turns, thinking": partial(turns, model=THINKING),
        "tool": tool,
        "tool, twice": partial(tool, caller=TWICE),
        "turns, handed on": handed_on,
        "named": named,
        "named handoff of an orchestration": handoff,
    }
    return {"Responses": chat | {"named by metadata": named_by_metadata}, "Chat": chat}


def llama_index():
    from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
    from llama_index.core.llms import ChatMessage
    from llama_index.core.memory import ChatMemoryBuffer
    from llama_index.core.workflow import Context
    from llama_index.llms.openai import OpenAI, OpenAIResponses

    def options_of(talk, behaviour="fake-echo", arguments="{}"):
        # It knows no other models than OpenAI's.
        metadata = {"behaviour": behaviour.removeprefix("fake-"), "arguments": arguments}
        options = {"model": "gpt-4o", "api_base": talk.base_url, "api_key": KEY, "max_retries": 0}
        return options | {"additional_kwargs": {"metadata": metadata}}

    def model_of(talk, behaviour="fake-echo", arguments="{}", **options):
        kind = OpenAIResponses if talk.on_responses else OpenAI
        return kind(**options_of(talk, behaviour, arguments), **options)

    async def turns(talk, behaviour="fake-echo"):
        messages = [ChatMessage(role="system", content=INSTRUCTIONS)]
        for text in talk.texts:
            messages.append(ChatMessage(role="user", content=text))
            messages.append((await model_of(talk, behaviour).achat(messages)).message)

    async def by_id(talk):
        llm = model_of(talk, track_previous_responses=True)
        for text in talk.texts:
            await llm.achat([ChatMessage(role="system", content=INSTRUCTIONS), ChatMessage(role="user", content=text)])

    async def tool(talk, caller="fake-tools"):
        memory = ChatMemoryBuffer.from_defaults(token_limit=4000)
        for behaviour, text in zip([caller, "fake-echo"], talk.texts):
            llm = model_of(talk, behaviour)
            tools = [get_weather, get_time]
            # Of a chat's stream it mixes up calls whose pieces come by turns.
            agent = FunctionAgent(tools=tools, llm=llm, system_prompt=INSTRUCTIONS, streaming=talk.on_responses)
            await agent.run(text, memory=memory)

    async def handoff(talk, **options):
        def agent(name, other, instructions):
            arguments = json.dumps({"to_agent": other, "reason": "an order"})
            # Each agent has a model of its own, which follows its own responses alone if it follows any.
            llm = model_of(talk, HANDOFF, arguments, **options)
            about = {"name": name, "description": "Works in a store.", "system_prompt": instructions}
            return FunctionAgent(can_handoff_to=[other], llm=llm, streaming=talk.on_responses, **about)

        both = [agent("clerk", "cashier", INSTRUCTIONS), agent("cashier", "clerk", OTHER_INSTRUCTIONS)]
        store = AgentWorkflow(agents=both, root_agent="clerk")
        context = Context(store)
        for text in talk.texts:
            await store.run(text, ctx=context)

    async def named(talk, session, user):
        llm, system = model_of(talk), ChatMessage(role="system", content=INSTRUCTIONS)
        messages = [system, ChatMessage(role="user", content=talk.texts[0])]
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        await llm.achat(messages, extra_headers=headers)

    async def named_agent(talk, session, user):
        options = options_of(talk)
        headers = {"x-threadtap-session": session, "x-threadtap-user": user}
        if talk.on_responses:
            llm = OpenAIResponses(default_headers=headers, **options)
        else:
            llm = OpenAI(default_headers=headers, **options)
        await FunctionAgent(tools=[], llm=llm, system_prompt=INSTRUCTIONS).run(talk.texts[0])

    chat = {
        "turns": turns,
        "turns, thinking": partial(turns, behaviour=THINKING),
        "tool": tool,
        "tool, twice": partial(tool, caller=TWICE),
        "handoff": handoff,
        "named": named,
        "named, an agent": named_agent,
    }
    responses = {"turns by id": by_id, "handoff by id": partial(handoff, track_previous_responses=True)}
    return {"Responses": chat | responses, "Chat": chat}


FRAMEWORKS = {
    "langchain": langchain,
    "llama-index": llama_index,
    "openai-agents": openai_agents,
    "pydantic-ai": pydantic_ai,
    "semantic-kernel": semantic_kernel,
}


def said(name):
    """What the user says in a flow. No two begin alike: what several say tells nobody apart."""
    return [f"What are the store hours? ({name})", "And on Sundays?", "Thank you."]


def answered(control):
    """The ids of all responses and completions there were, those of each API in order."""
    ids = []
    for path, key in [("responses", "response"), ("completions", "completion")]:
        with urllib.request.urlopen(f"{control}/{path}") as answer:
            ids += [truth[key] for truth in json.load(answer)]
    return ids


async def play(url, merging, control, framework):
    ids = {}
    for api, flows in FRAMEWORKS[framework]().items():
        for kind, flow in flows.items():
            for at, suffix in [(url, ""), (merging, ", merged")][: 1 + (kind in MERGED)]:
                name = f"{framework}, {api}, {kind}{suffix}"
                before = answered(control)
                names = (f"session of {name}", f"user of {name}") if kind.startswith("named") else ()
                await flow(Talk(api, at, said(name)), *names)
                ids[name] = [id for id in answered(control) if id not in before]
    return ids


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(*sys.argv[1:]))))
