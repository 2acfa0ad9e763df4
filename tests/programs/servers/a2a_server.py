"""An A2A agent of the Python SDK: answers with the text in capitals, or with a task in three steps for `stream`."""

import sys

import uvicorn
from a2a.helpers import get_message_text, new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

PORT = int(sys.argv[1])


class Agent(AgentExecutor):
    async def execute(self, context, queue):
        text = get_message_text(context.message)
        if text != "stream":
            await queue.enqueue_event(new_text_message(text.upper(), context_id=context.context_id))
            return
        task = context.current_task or new_task_from_user_message(context.message)
        await queue.enqueue_event(task)
        updater = TaskUpdater(queue, task.id, task.context_id)
        for i in range(3):
            await updater.add_artifact([new_text_part(f"part {i}")], name=f"part{i}")
        await updater.complete()

    async def cancel(self, context, queue):
        raise NotImplementedError


card = AgentCard(
    name="laboratory", description="capitals", version="1", default_input_modes=["text/plain"],
    default_output_modes=["text/plain"], capabilities=AgentCapabilities(streaming=True),
    supported_interfaces=[AgentInterface(url=f"http://127.0.0.1:{PORT}/", protocol_binding="JSONRPC", protocol_version="1.0")],
    skills=[AgentSkill(id="capitals", name="capitals", description="capitals", tags=["text"])],
)
handler = DefaultRequestHandler(agent_executor=Agent(), task_store=InMemoryTaskStore(), agent_card=card)
routes = create_agent_card_routes(card) + create_jsonrpc_routes(handler, "/")
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")
