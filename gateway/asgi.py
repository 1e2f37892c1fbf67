"""The ASGI application, for servers that want one (`gateway.asgi:app`)."""
