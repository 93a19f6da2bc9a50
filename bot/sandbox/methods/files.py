"""files: the upload in three steps, which is the only one Slack still has."""

import secrets
import time

from bot.sandbox import review
from bot.sandbox.methods.method import Method, RefusedError, Request, refuse
from bot.sandbox.state import File, Json


def get_upload_url(request: Request) -> Json:
    length, name = request.number("length", 0), request.text("filename")
    if length <= 0 or not name:
        raise RefusedError("missing_argument")
    file = File(
        request.workspace.new_id("F"),
        name,
        "",
        length,
        request.me,
        secrets.token_urlsafe(18),
        int(time.time()),
    )
    request.workspace.files[file.id] = file
    return {"upload_url": f"{request.workspace.url}/upload/{file.id}/{file.ticket}", "file_id": file.id}


def complete(request: Request) -> Json:
    asked = request.json("files")
    if not isinstance(asked, list) or not asked or not all(isinstance(a, dict) for a in asked):
        raise RefusedError("file_not_found")
    files: list[File] = []
    for item in asked:
        file = request.workspace.files.get(str(item.get("id")))
        if file is None or file.data is None or file.complete:
            # The bytes were never sent, or were not as many as had been announced.
            raise RefusedError("file_not_found")
        files.append(file)
    places = [*request.ids("channels"), *request.ids("channel_id")]
    if len(places) > 100:
        raise RefusedError("channels_limit_exceeded")
    channels = []
    for place in places:
        channel = request.workspace.channels.get(place)
        if channel is None or not request.workspace.sees(channel, request.me):
            raise RefusedError("channel_not_found")
        if request.me not in channel.members:
            raise RefusedError("not_in_channel")
        if channel.archived:
            raise RefusedError("posting_to_channel_denied")
        channels.append(channel)
    comment, blocks = request.text("initial_comment"), request.json("blocks", "invalid_blocks") or []
    refuse("invalid_blocks", review.message(request.workspace, request.name, comment, blocks))
    for file, item in zip(files, asked, strict=True):
        file.title = str(item.get("title") or file.name)
    for channel in channels:
        thread = request.text("thread_ts") or None
        request.workspace.share(channel, files, comment, blocks=blocks, thread_ts=thread)
    return {"files": [f.payload(request.workspace.url) for f in files]}


def info(request: Request) -> Json:
    file = request.workspace.files.get(request.text("file"))
    if file is None or not file.complete:
        raise RefusedError("file_not_found")
    return {"file": file.payload(request.workspace.url), "comments": []}


METHODS = {
    "files.getUploadURLExternal": Method(
        get_upload_url, ("length", "filename"), ("snippet_type", "alt_txt"), "files:write", tier=4
    ),
    "files.completeUploadExternal": Method(
        complete,
        ("files",),
        (
            *("channel_id", "channels", "thread_ts", "initial_comment", "blocks"),
            *("username", "icon_url", "icon_emoji"),
        ),
        "files:write",
        tier=4,
    ),
    "files.info": Method(info, ("file",), ("count", "cursor", "limit", "page"), "files:read", tier=4),
}
