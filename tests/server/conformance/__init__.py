"""What a server does, wherever its critics run: the suite that every executor has to pass.

`tests/server/test_on_local.py` and `test_on_ray.py` run it: a file that imports the suite and says, by a fixture named
`serving`, how a server with that executor is started.
"""
