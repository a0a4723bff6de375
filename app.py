"""The workbench page: ``python app.py``."""

from clipsam.workbench.app import main

if __name__ == "__main__":
    main()
