"""One module a command; module and function bear the command's name."""
