"""The one error that is the user's to mend: the command line prints it as a line and exits with 2."""


class UserError(Exception):
    """Bad input or configuration.

    The message is one line that names the file or field, what was found, what was expected and what to do.
    """
