"""`python -m voxtral` is the command `voxtral`.

Signals have their handlers before the rest is imported: half of what a short command takes is imports.
"""

from voxtral.cli.process import end_on_signals


def main() -> None:
    """Run the command line of this process and exit."""
    end_on_signals()
    from voxtral.cli.main import main

    main()


if __name__ == "__main__":
    main()
