"""How does a browser show it? The viewer's server and its messages; live view of a running fit."""
