"""Every Web API method there is here, by its name."""

from bot.sandbox.methods import basics, canvases, chat, conversations, files, marks, people, views
from bot.sandbox.methods.method import Method

METHODS: dict[str, Method] = {
    **basics.METHODS,
    **canvases.METHODS,
    **chat.METHODS,
    **conversations.METHODS,
    **files.METHODS,
    **marks.METHODS,
    **people.METHODS,
    **views.METHODS,
}
