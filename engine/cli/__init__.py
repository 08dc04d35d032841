"""The command line: one verb a file. Data on standard output, messages and progress on standard error."""
