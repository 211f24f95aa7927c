"""`python -m relay`: the same as the `switchhook` command, for platforms that install only the requirements."""

from relay.cli import main

if __name__ == "__main__":
    main(prog_name="switchhook")
