"""The command line: one verb a file. Data on standard output, messages and progress on standard error."""

INTERRUPTED = 130
"""What a command ends with after Ctrl-C, as shells say it."""
