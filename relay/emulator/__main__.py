"""`python -m relay.emulator`: see `relay.emulator.main`."""

from relay.emulator.main import main

if __name__ == "__main__":
    main()
