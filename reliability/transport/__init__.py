"""HTTP requests to n8n and to other services, and the only package that opens a socket.

`client` sends one request within a deadline and says what came of it. The other modules are the parts of its
connections.
"""
