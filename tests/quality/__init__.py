"""How good extraction is: documents of the project's own making, each with its labels, and what is found in them."""
