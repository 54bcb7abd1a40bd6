"""What `kernels/perf/gpu_check.py` does on a machine with a GPU: stages, each in its own process.

    stages.py      the table: what runs, for how long at most
    supervisor.py  runs them one by one, and writes what there is after each
    worker.py      one stage in its process; events.py: what it tells, line by line

Import the rooms, not this package. The supervisor's side imports no torch.
"""
