"""The front door: takes requests in an event loop under limits, and hands each to the WSGI application in a thread."""
