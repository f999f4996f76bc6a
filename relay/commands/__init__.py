"""What the subcommands do, one module each; `relay/cli.py` only parses arguments."""
