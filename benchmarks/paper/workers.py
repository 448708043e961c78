"""Who works at the same time?"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from figures import quiet


def workers(count: int) -> ProcessPoolExecutor:
    """Return so many processes, which share the cores evenly."""
    cores = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(
        count,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(max(1, cores // count),),
    )


def _begin(threads: int) -> None:
    quiet()
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for what a pipeline starts
