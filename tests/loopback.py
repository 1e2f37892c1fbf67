"""httpx for tests that speak plain HTTP on this machine.

No certificates are loaded, which takes httpx 19 ms of CPU for each call of `httpx.get`: what asks
again and again until something is so would keep a core busy with it.
"""

from __future__ import annotations

from functools import partial

import httpx

get = partial(httpx.get, verify=False)
post = partial(httpx.post, verify=False)
put = partial(httpx.put, verify=False)
patch = partial(httpx.patch, verify=False)
delete = partial(httpx.delete, verify=False)
stream = partial(httpx.stream, verify=False)
Client = partial(httpx.Client, verify=False)
AsyncClient = partial(httpx.AsyncClient, verify=False)
