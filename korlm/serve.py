"""Command: serve a trained run as a local web page and JSON interface."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import socket

from korlm.config import ServeSettings
from korlm.sweeps.command import command
from korlm.utils.errors import ConfigError

logger = logging.getLogger(__name__)


@command("serve")
def main(settings: ServeSettings) -> None:
    """Serve the page and the JSON interface until Ctrl-C."""
    from korlm.api.runs import TaskRun, load_any
    from korlm.runs.device import inference_device
    from korlm.serving.app import build_app, is_loopback
    from korlm.serving.connections import build_server
    from korlm.serving.served_model import ServedLanguageModel, ServedTask
    from korlm.utils.torch_backend import tf32

    with contextlib.ExitStack() as stack:
        stack.enter_context(tf32(False))  # on a GPU as on a CPU
        server_socket = stack.enter_context(_listen(settings))
        run = load_any(settings.run, inference_device(settings))
        stack.enter_context(run)
        engine = ServedTask(run) if isinstance(run, TaskRun) else ServedLanguageModel(run)
        run.warm_up()
        gc.freeze()  # else the garbage collector scans the vocabulary during a request
        app = build_app(engine, settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        logger.info("http://%s:%d  (Ctrl-C to stop)", host, server_socket.getsockname()[1])
        if not is_loopback(settings.host):
            logger.warning("host=%s: anyone who can reach this machine can use it", settings.host)
        build_server(app).run(sockets=[server_socket])


def _listen(settings: ServeSettings) -> socket.socket:
    """Return a listening socket."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else "no such address"
        advice = {
            errno.EADDRINUSE: "stop the other program, or set another port (port=0: any free one)",
            errno.EACCES: "set a port above 1023 (port=0: any free one)",
        }
        default = "set an address of this machine, such as host=127.0.0.1"
        raise ConfigError(
            f"host={settings.host} port={settings.port}: cannot listen there ({reason}); "
            + advice.get(number, default)
        ) from error


if __name__ == "__main__":
    main()
