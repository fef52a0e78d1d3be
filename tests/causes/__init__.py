"""What holds an order up, done to real systems on purpose, and whether `order explain` and `stuck` say so."""
