"""Starting and stopping TorchServe: on a laptop, in the tests, under load and as a container's entry point.

`TorchServe` (serving/torchserve.py) is the one way in; `python -m serving` is its command line.
Everything a run writes lies in its run folder: configuration, model store, logs, process id, temporary files.
"""
