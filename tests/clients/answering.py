"""An upstream in its own process, for tests that kill it: `answering.py PORT NAME`.

Answers each request with its name, shortly after the end of the request.
"""

import asyncio
import sys

SECONDS = 0.02


async def serve(reader, writer, name):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields.get(b"content-length", 0)))
            await asyncio.sleep(SECONDS)
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}"
            writer.write(answer.encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port, name):
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, name), "127.0.0.1", port, backlog=1024
    )
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
