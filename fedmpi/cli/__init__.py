"""The command line: argument parsing, messages and exit codes."""
