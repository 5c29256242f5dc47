"""jupyter_client under the same clock: one JSON command a line in, its seconds out.

    {"run": CODE, "connection_file": PATH, "times": N, "warm": M}
        connects, runs the code M + N times, each from `execute` to reply and
        idle, and answers with the last N times and the characters printed
    {"start": KERNEL}
        from `start_new_kernel` to the result of 1+1
"""

import json
import subprocess
import sys
import time

from jupyter_client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel


def run(client, code):
    """One round trip by the leanest calls that the library has."""
    characters = 0
    msg_id = client.execute(code)
    while True:
        message = client.get_iopub_msg()
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            characters += len(content["text"])
        elif kind == "status" and content["execution_state"] == "idle":
            break
    while client.get_shell_msg()["parent_header"].get("msg_id") != msg_id:
        pass
    return characters


def run_many(code, connection_file, times, warm):
    client = BlockingKernelClient(connection_file=connection_file)
    client.load_connection_file()
    client.start_channels(stdin=False, hb=False)
    try:
        client.wait_for_ready(timeout=60)
        for _ in range(warm):
            run(client, code)
        seconds, characters = [], 0
        for _ in range(times):
            started = time.perf_counter()
            characters = run(client, code)
            seconds.append(time.perf_counter() - started)
    finally:
        client.stop_channels()
    return {"seconds": seconds, "characters": characters}


def start(kernel):
    started = time.perf_counter()
    manager, client = start_new_kernel(
        kernel_name=kernel, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    run(client, "1+1")
    seconds = time.perf_counter() - started
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return {"seconds": [seconds], "characters": 0}


for line in sys.stdin:
    command = json.loads(line)
    if "start" in command:
        answer = start(command["start"])
    else:
        answer = run_many(
            command["run"],
            command["connection_file"],
            command["times"],
            command["warm"],
        )
    print(json.dumps(answer), flush=True)
