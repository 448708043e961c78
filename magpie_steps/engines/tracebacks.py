"""What does an error show that nobody catches?"""

import sys


def hide_variables() -> None:
    """Have such an error told without the values of variables, keys among them.

    distilabel 1.5.3, when it is imported, has the library rich print all of them.
    """
    if sys.excepthook.__module__ == "rich.traceback":
        from rich.traceback import install

        install(show_locals=False)
