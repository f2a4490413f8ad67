"""What a worker is asked and answers: one line of JSON each way. kvlab decode-worker speaks it too.

A worker loads one model, says `{"ready": true, ...}` and then answers until it is told to quit:

  {"op": "greedy", "prompt_ids": [..], "tokens": n}       -> {"ids": [..], "ns": [..]}
  {"op": "prefill", "tokens": n}                          -> {"ns": [one], "last_ids": [id]}
  {"op": "decode", "depth": d, "tokens": n, "batch": b}   -> {"ns": [..], "last_ids": [..]}
  {"op": "quit"}

Times are nanoseconds, one for each step. `prefill` feeds n tokens to an empty cache. `decode`
brings b rows to depth d, feeds `WARM_UP_STEPS` tokens and n more, one for each row in each step,
and times the n; `last_ids` are the likeliest next tokens after the last step.
What is fed is `fed_token`, the same in every engine. Other keys choose among an engine's settings:
`attention` and `cache` of llama.cpp, `cache` of kvlab, whose attention is an option of the command.
kvlab takes {"prompt": text} in place of prompt_ids. Keys that an engine does not know are refused.
Engines with many settings know {"op": "forget"} -> {}: what was kept for the next request is given
back. A request that fails is answered with {"error": text}.
"""
import json
import sys

WARM_UP_STEPS = 2
PREFILL_CHUNK = 512
OPERATIONS = ("greedy", "prefill", "decode", "forget")


def fed_token(row: int, position: int, vocabulary: int) -> int:
    return (17 + 7919 * position + 104729 * row) % vocabulary


def fed_tokens(row: int, first: int, end: int, vocabulary: int) -> list:
    return [fed_token(row, position, vocabulary) for position in range(first, end)]


def serve(description: dict, engine):
    """Answers requests from standard input with the methods of `engine` until the end of input."""
    channel = sys.stdout
    sys.stdout = sys.stderr  # libraries print there

    def send(answer):
        print(json.dumps(answer), file=channel, flush=True)

    send({"ready": True, **description})
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("op"), str):
                raise ValueError("a request is an object with a text 'op'")
            operation = request.pop("op")
            if operation == "quit":
                return
            if operation not in OPERATIONS or not hasattr(engine, operation):
                raise ValueError(f"'{operation}' is no operation of this engine")
            send(getattr(engine, operation)(**request))
        except Exception as error:  # the other side decides what a failure means
            send({"error": f"{type(error).__name__}: {error}"})
