"""Who works at the same time?"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

import torch
from figures import quiet


def workers(count: int) -> ProcessPoolExecutor:
    """Return so many processes, which share the cores evenly and end with this one."""
    cores = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(
        count,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(max(1, cores // count),),
    )


def _begin(threads: int) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    quiet()
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for what a pipeline starts


def _end_with_parent() -> None:
    """End when the process that started this one does: killed, it would leave a model training."""
    if parent := parent_process():
        parent.join()
        os._exit(1)
