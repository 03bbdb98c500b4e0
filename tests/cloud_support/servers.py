"""Starts one of the packaged servers on a free port of this machine, prints the port, and ends when its standard input does.

servers.py files FOLDER    a web server over the files of a folder (starlette on uvicorn), with ranges, tags and times
servers.py s3              an S3 server that keeps its objects in memory (moto)
"""

import os
import socket
import sys
import threading


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


def files(folder):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(listener.getsockname()[1], flush=True)
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def s3():
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    threading.Event().wait()


threading.Thread(target=end_with_parent, daemon=True).start()
if sys.argv[1] == "files":
    files(sys.argv[2])
else:
    s3()
