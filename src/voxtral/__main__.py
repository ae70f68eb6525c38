"""`python -m voxtral` is the command `voxtral`."""

from voxtral.cli.main import main

if __name__ == "__main__":
    main()
