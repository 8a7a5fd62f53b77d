"""`vitreous` and `python -m vitreous`."""

import sys


def main() -> int:
    """Run the command that was typed; return its exit code. Ctrl-C ends it with one line from the very beginning."""
    try:
        from vitreous.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("vitreous: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
