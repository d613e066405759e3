"""The web process's front end: takes requests in an event loop under limits, and hands each to the WSGI application.

`application` is the ASGI application; it answers the light endpoint and /healthz in the event loop. Any other request
is an `exchange`: `bodies` reads its body within the memory `budget`, `environ` makes its WSGI environment, `pool` gives
it a thread, `wsgi_runner` runs the application, `sending` sends the answer. `refusals` are the answers to requests over
a limit, `limits` the limits themselves. `shutdown` ends the process, `sockets` sets what the server cannot.
"""
