"""One module a group of figures: each has a `measure(context)`."""
