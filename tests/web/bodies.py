"""Bodies that a gateway could spoil: the edge cases of what clients send and upstreams answer."""

from __future__ import annotations

import base64

_MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
_IMAGE = base64.b64encode(bytes(range(256)) * 40)


def chat(*members: bytes) -> bytes:
    """A small chat request with these members after its messages."""
    return b"{" + b",".join([b'"model":"m"', _MESSAGES, *members]) + b"}"


REQUESTS: dict[str, bytes] = {
    "plain": chat(),
    "unknown fields": chat(b'"x_vendor":{"deep":[1,{"y":null}]}', b'"\\u0061bc":1'),
    "duplicate-looking keys": chat(b'"Model":"other"', b'"messages ":[]', b'"model\\u0020":1'),
    "big integers": chat(b'"seed":123456789012345678901234567890', b'"n":1'),
    "float spellings": chat(b'"temperature":1.0', b'"top_p":1e-7', b'"a":-0', b'"b":1E+2'),
    "escapes": chat(b'"user":"\\u00e9\\/\\t\\ud83d\\ude00"'),
    "lone surrogate": b'{"model":"m","messages":[{"role":"user","content":"cut \\ud83d"}]}',
    "NaN": chat(b'"x":NaN', b'"y":-Infinity'),
    "white space": b' \r\n{ "model" : "m" ,\n\t"messages":\n[ { "role" : "user" , '
    b'"content" : "hi" } ]\n}\n ',
    "duplicate keys": b'{"model":"a","messages":[{"role":"user","content":"hi"}],"model":"m"}',
    "unusual key order": b'{"stream":false,"messages":[{"content":"hi","role":"user"}],'
    b'"model":"m"}',
    "utf-8": '{"model":"m","messages":[{"role":"user","content":"日本語 🎉 ñ"}]}'.encode(),
    "base64 image": b'{"model":"m","messages":[{"role":"user","content":['
    b'{"type":"text","text":"what?"},{"type":"image_url","image_url":'
    b'{"url":"data:image/png;base64,' + _IMAGE + b'"}}]}]}',
    "audio": b'{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio",'
    b'"input_audio":{"data":"UklGRg==","format":"wav"}}]}],"modalities":["text","audio"]}',
    "several choices": chat(b'"n":3', b'"logprobs":true', b'"top_logprobs":5'),
    "response format": chat(
        b'"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}}'
    ),
    "tools": chat(
        b'"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]',
        b'"tool_choice":"auto"',
        b'"parallel_tool_calls":true',
    ),
    "store and metadata": chat(b'"store":true', b'"metadata":{"k":"v"}'),
    "stream options": chat(b'"stream":true', b'"stream_options":{"include_usage":true}'),
    "a stream without usage": chat(b'"stream":true', b'"stream_options":{"include_usage":false}'),
    "developer role": b'{"model":"m","messages":[{"role":"developer","content":"be brief"},'
    b'{"role":"user","content":"hi"}]}',
    "system role": b'{"model":"m","messages":[{"role":"system","content":"be brief"},'
    b'{"role":"user","content":"hi"}]}',
    "null content": b'{"model":"m","messages":[{"role":"user","content":"hi"},'
    b'{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",'
    b'"function":{"name":"f","arguments":"{}"}}]},'
    b'{"role":"tool","tool_call_id":"c","content":"42"}]}',
    "content as parts": b'{"model":"m","messages":[{"role":"system","content":[{"type":"text",'
    b'"text":"be brief"}]},{"role":"user","content":[{"type":"text","text":"hi"}]}]}',
    "refusal": b'{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant",'
    b'"content":null,"refusal":"no"},{"role":"user","content":"why?"}]}',
    "reasoning content": b'{"model":"m","messages":[{"role":"user","content":"hi"},'
    b'{"role":"assistant","content":"ho","reasoning_content":"hmm"},'
    b'{"role":"user","content":"more"}]}',
}

RESPONSES: dict[str, bytes] = {
    "string": b'{"model":"m","input":"hi"}',
    "white space": b' {\n"input" :\t"hi" , "model":"m" }\r\n',
    "instructions": b'{"model":"m","instructions":"be brief","input":"hi","temperature":1.0}',
    "null instructions": b'{"model":"m","instructions":null,"input":"hi"}',
    "list": b'{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"hi"},'
    b'{"type":"input_image","image_url":"data:image/png;base64,' + _IMAGE + b'"}]}]}',
    "developer item": b'{"input":[{"type":"message","role":"developer","content":"be brief"},'
    b'{"role":"user","content":"hi"}],"model":"m"}',
    "tool outputs": b'{"model":"m","input":[{"role":"user","content":"hi"},{"type":"reasoning",'
    b'"id":"rs_1","summary":[],"encrypted_content":"x=="},{"type":"function_call","call_id":"c",'
    b'"name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"42"}]}',
    "previous response": b'{"model":"m","previous_response_id":"resp_1","input":"hi"}',
    "conversation": b'{"model":"m","conversation":{"id":"conv_1"},"input":"hi","store":true}',
    "lone surrogate": b'{"model":"m","input":"cut \\ud83d"}',
    "odd numbers": b'{"model":"m","input":"hi","top_p":1e-7,"max_output_tokens":16,"x":NaN}',
    "duplicate keys": b'{"model":"a","input":"hi","model":"m"}',
    "tools": b'{"model":"m","input":"hi","tools":[{"type":"function","name":"f","strict":true,'
    b'"parameters":{"type":"object"}},{"type":"web_search"}],"tool_choice":"auto"}',
    "stream": b'{"model":"m","input":"hi","stream":true,"include":["reasoning.encrypted_content"]}',
}

_HEAD = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":'

ANSWERS: dict[str, bytes] = {
    "plain": _HEAD + b'[{"index":0,"message":{"role":"assistant","content":"ho"},'
    b'"finish_reason":"stop"}]}',
    "white space and numbers": b'{ "choices" : [ ] ,\n"usage" : {"x":1.0,"y":1e-7, "y":2} }\n\n',
    "logprobs and choices": _HEAD + b'[{"index":0,"message":{"content":"a"},"logprobs":'
    b'{"content":[{"token":"a","logprob":-1.0e-3}]}},{"index":1,"message":{"content":"b"}}]}',
    "lone surrogate": _HEAD + b'[{"index":0,"message":{"content":"cut \\ud83d"}}]}',
    "refusal": _HEAD + b'[{"index":0,"message":{"content":null,"refusal":"no"}}]}',
    "no JSON at all": b"<html>all is well</html>",
    "empty": b"",
    "bytes": bytes(range(256)),
}
