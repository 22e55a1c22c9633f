"""One engine a module, each with two functions.

``convert(job)`` writes the engine's own files into the job's folder; it runs in a process that is then thrown away.
``load(job)`` opens them in the process that is timed, and returns a ``Loaded``. Engines are imported inside these
functions, since any of them may be absent.
"""
