"""Stage: run -> a page on this machine where one types Korean and sees what the model thinks."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import socket
from pathlib import Path

from korlm.config import ServeSettings
from korlm.sweeps.command import stage
from korlm.utils.errors import ConfigError, require_extra

logger = logging.getLogger(__name__)


@stage("serve")
def main(settings: ServeSettings) -> None:
    """Serves the page and its JSON interface until Ctrl-C."""
    with require_extra("fastapi", "uvicorn"):
        from korlm.serving.app import LOOPBACK, build_app
        from korlm.serving.connections import server_of
        from korlm.serving.engine import Engine
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import load_run

    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listen(settings))
        run = load_run(Path(settings.run))
        engine = stack.enter_context(Engine(run, inference_device(settings)))
        engine.warm_up()
        gc.freeze()  # Python's collector would go through the vocabulary in the midst of an answer
        app = build_app(engine, settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        logger.info("http://%s:%d  (Ctrl-C ends it)", host, listening.getsockname()[1])
        if settings.host not in LOOPBACK:
            logger.warning("host=%s: everyone who reaches this machine may use it", settings.host)
        server_of(app).run(sockets=[listening])


def _listen(settings: ServeSettings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else "no such address"
        advice = {
            errno.EADDRINUSE: "end what does, or give another port (port=0: any free one)",
            errno.EACCES: "give a port above 1023 (port=0: any free one)",
        }
        other = "give an address of this machine, such as host=127.0.0.1"
        raise ConfigError(
            f"host={settings.host} port={settings.port}: cannot listen there ({reason}); "
            + advice.get(number, other)
        ) from error


if __name__ == "__main__":
    main()
