"""Which distilabel components does the package offer?

One component per module; `magpie_steps` exports them all.
"""
