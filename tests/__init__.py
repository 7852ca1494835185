"""What must hold: a folder for each package, ``support`` for what tests share, ``e2e`` for the whole."""
