"""llama.cpp's HTTP server as the package xllamacpp has it: llama_server.py MODEL PORT SLOTS."""

from __future__ import annotations

import signal
import sys

import xllamacpp


def main() -> None:
    """Serve until a signal; prompts are not kept between requests."""
    model, port, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = 256 * slots
    params.cache_prompt = False
    params.cpuparams.n_threads = 1
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main()
