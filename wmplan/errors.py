"""The error a user can cause: one line that names the file, scene or field, the value, and what was expected."""


class InputError(ValueError):
    """Input from outside (a file, a config field, a checkpoint) that wmplan cannot use.

    The command line prints the message alone, without a traceback. Say where, what was found, what was expected:
    `InputError("scene.json.xz: objects[3].heading has 90 values, expected 91")`.
    """
