"""HTTP in: routes, parsing of headers and bodies, and the shape of answers and errors."""
