"""Where uploaded files go, and where they can be fetched again."""

import secrets
import urllib.parse

from aiohttp import web

from bot.sandbox.state import MIME
from bot.sandbox.workspace import Workspace

# What a browser may show as it is; everything else is only for saving.
SHOWN = {"text/plain", "text/markdown", "text/csv", "application/json", "application/pdf", "image/png"}


class Storage:
    """Answers ``/upload/<id>/<ticket>`` and ``/files/<id>``."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def upload(self, http: web.Request) -> web.StreamResponse:
        """Take the bytes, if they are as many as had been announced."""
        file = self.workspace.files.get(http.match_info["number"])
        if file is None or not secrets.compare_digest(file.ticket, http.match_info["ticket"]) or file.complete:
            return web.Response(status=404, text="no such upload")
        data = await _bytes(http)
        if len(data) != file.length:
            said = f"{file.name}: {len(data)} bytes sent, {file.length} announced"
            self.workspace.violation("upload_length", said)
            return web.Response(status=400, text=said)
        file.data = data
        return web.Response(text=f"OK - {len(data)}")

    async def download(self, http: web.Request) -> web.StreamResponse:
        file = self.workspace.files.get(http.match_info["number"])
        if file is None or file.data is None or not file.complete:
            raise web.HTTPNotFound(text="no such file")
        kind = MIME.get(file.name.rpartition(".")[2].lower(), "application/octet-stream")
        inline = kind in SHOWN and "download" not in http.query
        name = urllib.parse.quote(file.name)
        return web.Response(
            body=file.data,
            headers={
                "Content-Type": kind if inline else "application/octet-stream",
                "Content-Disposition": f"{'inline' if inline else 'attachment'}; filename*=UTF-8''{name}",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "X-Content-Type-Options": "nosniff",
            },
        )


async def _bytes(http: web.Request) -> bytes:
    """The body itself, or the one file in a form."""
    if not http.content_type.startswith("multipart/"):
        return await http.read()
    form = await http.post()
    for value in form.values():
        if isinstance(value, web.FileField):
            return value.file.read()
    return b""
