"""How a pipeline's step processes are started, fed, watched and ended."""
