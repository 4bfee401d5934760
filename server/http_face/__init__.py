"""The services over plain HTTP and JSON, for editors that cannot load gRPC.

A call that comes over HTTP runs through the very interceptors and handlers that gRPC's calls run through, in the same
process and event loop (`registry`), with a context of its own in the place of gRPC's (`context`). So there is one
implementation of tokens, roles, quotas, fair shares, limits, logs, metrics and traces, and nothing to keep in step. The
other way, a loopback channel to the gRPC server, would have had all callers come from one peer, would have needed
metadata that says who they really are and that nobody else may send, and would have written every picture twice more.
"""
