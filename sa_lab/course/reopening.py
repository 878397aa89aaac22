"""A chapter that was saved while its figures were live, and is opened again when its kernel is gone.

JupyterLab would put "Error displaying widget: model not found" in their place. Without the note that there was a widget
it shows their text, which says how to start them.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

LIVE = "application/vnd.jupyter.widget-view+json"
"""Kind of the output that names the widget of a kernel."""


class Contents(AsyncLargeFileManager):
    """The files of a server that `sa-lab lab` starts; those on the disk change only when the page saves them. After a
    restart of the kernel, whose session goes on, JupyterLab's own message still appears."""

    async def get(self, path: str, *args: Any, **more: Any) -> dict[str, Any]:
        """What a page asks for; a notebook without a kernel has no live figures in it."""
        model: dict[str, Any] = await super().get(path, *args, **more)  # type: ignore[no-untyped-call]
        if model["type"] == "notebook" and model["content"] and not await self._has_kernel(path):
            for cell in model["content"]["cells"]:
                for output in cell.get("outputs", []):
                    output.get("data", {}).pop(LIVE, None)
        return model

    async def _has_kernel(self, path: str) -> bool:
        server: Any = self.parent
        sessions = await server.session_manager.list_sessions()
        return any(session["path"].strip("/") == path.strip("/") for session in sessions)
