"""Questions of the command line to a running agent, over a unix socket."""
